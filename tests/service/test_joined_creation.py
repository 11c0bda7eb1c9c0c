"""Jobs created together share a statement, never each other's fate."""

import asyncio

import grpc

from tests.jobs_protocol import ProtocolClient, refusal
from tests.service_fixture import Sql


async def test_a_bad_request_among_fifty_fails_alone(client: ProtocolClient, sql: Sql) -> None:
    answers = await asyncio.gather(
        *(client.create(prompt=f"picture {n}", width=63 if n == 25 else 64) for n in range(51)),
        return_exceptions=True,
    )

    bad = answers.pop(25)
    assert isinstance(bad, grpc.aio.AioRpcError)
    assert refusal(bad).fields == ("job.width",)
    assert not any(isinstance(answer, BaseException) for answer in answers)
    assert await (await sql.execute("SELECT count(*) FROM generation_jobs")).fetchone() == (50,)


async def test_a_job_that_the_database_refuses_fails_alone(
    client: ProtocolClient, sql: Sql
) -> None:
    await sql.execute(
        "ALTER TABLE generation_jobs ADD CONSTRAINT of_the_test CHECK (prompt <> 'refused')"
    )
    answers = await asyncio.gather(
        *(
            client.create(prompt="refused" if n == 25 else f"picture {n}", request_id=f"r-{n}")
            for n in range(51)
        ),
        return_exceptions=True,
    )

    bad = answers.pop(25)
    assert isinstance(bad, grpc.aio.AioRpcError)
    # what validation lets through and the schema does not is a bug, logged under a reference
    assert refusal(bad).reason == "INTERNAL"
    assert refusal(bad).metadata["reference"] in refusal(bad).message
    assert not any(isinstance(answer, BaseException) for answer in answers)
    prompts = await (await sql.execute("SELECT prompt FROM generation_jobs")).fetchall()
    assert {prompt for (prompt,) in prompts} == {f"picture {n}" for n in range(51) if n != 25}
