"""A request_id makes CreateJob idempotent for its user, also across a restart."""

import asyncio

import grpc
import pytest

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient, refused
from tests.service_fixture import Sql

ANNA = "aaaaaaaa-0000-4000-8000-000000000001"
BERT = "bbbbbbbb-0000-4000-8000-000000000002"


async def test_fifty_concurrent_calls_create_one_job(client: ProtocolClient, sql: Sql) -> None:
    jobs = await asyncio.gather(*(client.create(request_id="once") for _ in range(50)))

    assert len({job.id for job in jobs}) == 1
    assert len({job.sampler.seed for job in jobs}) == 1
    assert await (await sql.execute("SELECT count(*) FROM generation_jobs")).fetchone() == (1,)


async def test_two_replicas_create_one_job(service_settings: Settings, sql: Sql) -> None:
    async with (
        server.running(service_settings) as one,
        server.running(service_settings) as other,
        grpc.aio.insecure_channel(one) as to_one,
        grpc.aio.insecure_channel(other) as to_other,
    ):
        clients = [ProtocolClient(to_one), ProtocolClient(to_other)]
        jobs = await asyncio.gather(
            *(clients[n % 2].create(request_id=f"both-{n // 20}") for n in range(100))
        )

    assert len({job.id for job in jobs}) == 5
    assert await (await sql.execute("SELECT count(*) FROM generation_jobs")).fetchone() == (5,)


async def test_the_same_job_is_answered_after_a_restart(service_settings: Settings) -> None:
    answers = []
    for _ in range(2):
        async with (
            server.running(service_settings) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            answers.append(await ProtocolClient(channel).create(request_id="again"))

    assert answers[0] == answers[1]


async def test_another_job_under_the_same_request_id_is_refused(client: ProtocolClient) -> None:
    first = await client.create(request_id="taken")
    error = await refused(client.create(request_id="taken", prompt="something else"))

    assert error.status is grpc.StatusCode.ALREADY_EXISTS
    assert error.reason == "REQUEST_ID_REUSED"
    assert error.metadata == {"job_id": str(first.id)}


async def test_of_concurrent_different_jobs_under_one_request_id_one_is_stored(
    client: ProtocolClient, sql: Sql
) -> None:
    answers = await asyncio.gather(
        *(client.create(request_id="raced", prompt=f"picture {n}") for n in range(20)),
        return_exceptions=True,
    )

    stored = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(stored) == 1
    errors = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {error.code() for error in errors} == {grpc.StatusCode.ALREADY_EXISTS}
    assert len(errors) == 19
    assert await (await sql.execute("SELECT prompt FROM generation_jobs")).fetchall() == [
        (stored[0].prompt,)
    ]


async def test_the_hash_covers_what_was_sent_not_what_it_became(client: ProtocolClient) -> None:
    await client.create(request_id="r")
    # the default written out is another request: whether they mean the same may change
    error = await refused(client.create(request_id="r", width=832))
    assert error.reason == "REQUEST_ID_REUSED"


async def test_labels_in_another_order_are_the_same_request(client: ProtocolClient) -> None:
    first = await client.create(request_id="r", labels={"a": "1", "b": "2"})
    second = await client.create(request_id="r", labels={"b": "2", "a": "1"})
    assert first.id == second.id


@pytest.mark.parametrize("concurrent", [False, True])
async def test_two_users_may_use_the_same_request_id(
    client: ProtocolClient, *, concurrent: bool
) -> None:
    calls = [client.create(request_id="mine", user_id=user) for user in (ANNA, BERT)]
    jobs = await asyncio.gather(*calls) if concurrent else [await call for call in calls]

    assert [job.user_id for job in jobs] == [ANNA, BERT]
    assert jobs[0].id != jobs[1].id


async def test_without_a_request_id_every_call_creates_a_job(client: ProtocolClient) -> None:
    jobs = await asyncio.gather(*(client.create() for _ in range(10)))
    assert len({job.id for job in jobs}) == 10
