"""What a watch is brought with the news it need not read, and what it is told is the newest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from job_service.events.hub import Hub, JobChanged
from job_service.events.job_feed import JobFeed
from job_service.settings import Settings
from job_service.store.admission import UserCaps
from job_service.store.database import Database
from job_service.store.job_details import DetailedJob
from job_service.store.jobs import JobStore
from tests.jobs_protocol import COMPLETED, RUNNING, ProtocolClient
from tests.service_fixture import Sql
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker, artifact_file

READS_A_JOB = b"AS artifacts"
CHANGE = "UPDATE generation_jobs SET content_id = %s WHERE id = %s"


@pytest.fixture
async def jobs(service_settings: Settings) -> AsyncIterator[JobStore]:
    assert service_settings.database_url
    database = Database(service_settings.database_url)
    yield JobStore(database, UserCaps())
    await database.close()


async def newest(told: AsyncIterator[DetailedJob | None]) -> DetailedJob:
    job = await anext(told)
    assert job is not None
    return job


@pytest.mark.parametrize("with_files", [True, False])
async def test_a_completed_job_is_brought_to_its_watch_as_it_is_read(
    client: ProtocolClient, worker: ProtocolWorker, *, with_files: bool
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    async with client.watching(job.id) as watch:
        assert watch.job.status == RUNNING
        with statements_sent() as sent:
            if with_files:
                await worker.complete_with(lease, [artifact_file(lease, b"picture")])
            else:
                await worker.complete(lease)
            done = await watch.until(COMPLETED)
        reads = [text for text, _ in sent if READS_A_JOB in text]
    assert len(reads) == 1, "by the completion itself"
    assert done == await client.get(job.id)
    assert len(done.artifacts) == with_files


async def test_a_completion_that_nobody_watches_reads_nothing(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    with statements_sent() as sent:
        await worker.complete_with(lease, [artifact_file(lease, b"picture")])
    assert not [text for text, _ in sent if READS_A_JOB in text]


async def test_of_what_is_brought_and_what_has_changed_since_a_watch_tells_the_newest(
    client: ProtocolClient, jobs: JobStore, sql: Sql
) -> None:
    job_id = (await client.create()).id
    hub = Hub()
    watch = JobFeed(hub, jobs, 300).watch(job_id, None, keep_alive=30)
    async with aclosing(watch) as told:
        assert (await newest(told)).row.content_id is None
        versions: list[DetailedJob] = []
        for content_id in (1, 2, 3, 4):
            await sql.execute(CHANGE, [content_id, job_id])
            versions.append((await jobs.detailed([job_id]))[job_id])

        hub.publish_job(versions[0])
        assert (await newest(told)).row.content_id == 1
        # Out of order, and one that has not been told otherwise.
        hub.publish_job(versions[2])
        hub.publish_job(versions[1])
        assert (await newest(told)).row.content_id == 3
        hub.publish_job(versions[1])
        hub.publish(JobChanged(job_id))
        assert (await newest(told)).row.content_id == 4

        silent = asyncio.create_task(newest(told))
        for version in versions:
            hub.publish_job(version)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert not silent.done(), "nothing of this is new"
        await sql.execute(CHANGE, [5, job_id])
        hub.publish(JobChanged(job_id))
        assert (await silent).row.content_id == 5


async def test_what_is_brought_of_another_user_s_job_is_not_told(
    client: ProtocolClient, jobs: JobStore, sql: Sql
) -> None:
    job = await client.create()
    before = (await jobs.detailed([job.id]))[job.id]
    hub = Hub()
    watch = JobFeed(hub, jobs, 300).watch(job.id, before.row.user_id, keep_alive=30)
    async with aclosing(watch) as told:
        await anext(told)
        await sql.execute("UPDATE generation_jobs SET user_id = NULL WHERE id = %s", [job.id])
        hub.publish_job((await jobs.detailed([job.id]))[job.id])
        with pytest.raises(Exception, match="there is no job"):
            await anext(told)
