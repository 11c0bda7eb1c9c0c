"""A job that CreateJob has answered for is on the disk, also where a worker begins with it before.

PostgreSQL is killed: what was committed and not brought to the disk is gone then.
"""

import asyncio
from pathlib import Path
from typing import Final

from generation_jobs.v1 import job_pb2
from generation_jobs.v1.generation_job_service_pb2 import CreateJobRequest

from job_service.embedded_postgres import EmbeddedPostgres
from job_service.jobs.limits import Limits
from job_service.jobs.new_job import NewJob
from job_service.jobs.principal import LOCAL
from job_service.jobs.validation import new_job
from job_service.store.admission import UserCaps
from job_service.store.creation import JobCreation
from job_service.store.database import Database
from job_service.store.route_keys import RouteKeys
from tests.crashing_postgres import connected, until_it_crashes
from tests.jobs_protocol import ProtocolClient
from tests.service_fixture import Sql
from tests.statements_sent import Sent, statements_sent
from tests.worker_protocol import ProtocolWorker

FLUSH: Final = b"pg_logical_emit_message"


def job() -> NewJob:
    request = CreateJobRequest(
        job=job_pb2.GenerationJob(prompt="a lighthouse", checkpoint_model="sdxl.safetensors")
    )
    return new_job(request, LOCAL, Limits())


async def test_a_job_that_is_kept_outlives_its_server(tmp_path: Path) -> None:
    kept = set()
    async with until_it_crashes(tmp_path) as url:
        database = Database(url)
        creation = JobCreation(
            database, RouteKeys(database), UserCaps(), is_awaited=lambda route_key: True
        )
        for _ in range(5):
            created = await creation.create(job())
            assert not created.is_kept
            await creation.keep(created)
            kept.add(created.job.id)
    await database.close()
    async with EmbeddedPostgres(tmp_path) as postgres, await connected(postgres.url) as operator:
        rows = await (await operator.execute("SELECT id FROM generation_jobs")).fetchall()
    assert {job_id for (job_id,) in rows} == kept


def of_creation(sent: list[Sent]) -> list[str]:
    """What of these statements stores jobs or brings them to the disk, in order."""
    return [
        "flush" if FLUSH in text else "soon" if b"committed_soon" in text else "store"
        for text, _ in sent
        if FLUSH in text or b"INSERT INTO generation_jobs" in text
    ]


async def test_only_where_somebody_waits_for_it_a_job_may_be_begun_before_it_is_kept(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    with statements_sent() as sent:
        await client.create()
    assert of_creation(sent) == ["store"]
    await worker.complete(await worker.lease_one())

    waiting = asyncio.create_task(worker.lease_one(wait=30))
    for _ in range(3):  # behind it on the same connection
        await client.list_jobs(page_size=1)
    with statements_sent() as sent:
        await client.create(checkpoint_model="another.safetensors")
    assert of_creation(sent) == ["store"]
    with statements_sent() as sent:
        created = await client.create()
    assert of_creation(sent) == ["soon", "flush"]
    assert (await waiting).job_id == created.id


async def test_a_repeated_call_keeps_what_another_has_stored(
    client: ProtocolClient, sql: Sql
) -> None:
    await client.create(request_id="the same")
    with statements_sent() as sent:
        await client.create(request_id="the same")
    assert of_creation(sent)[-1] == "flush"
