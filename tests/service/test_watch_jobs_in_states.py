"""Watches of jobs in some states: what is in another state, and was never told, is not read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from generation_jobs.v1 import job_pb2

from job_service.events.change_feed import ChangeFeed
from job_service.events.hub import Hub, JobChanged
from job_service.events.jobs_watch import JobsWatches, WatchEvent
from job_service.store.admission import UserCaps
from job_service.store.changes import ChangeStore
from job_service.store.conditions import JobConditions
from job_service.store.database import Database
from job_service.store.jobs import JobStore
from job_service.store.listing import ListingStore
from tests.jobs_protocol import COMPLETED, ProtocolClient
from tests.service_fixture import Sql
from tests.statements_sent import Sent, statements_sent
from tests.worker_protocol import ProtocolWorker

END = "UPDATE generation_jobs SET status = 'cancelled', completed_at = now()"
RETRY = "UPDATE generation_jobs SET status = 'pending', completed_at = NULL WHERE id = %s"


def rows_read(sent: list[Sent]) -> list[list[int]]:
    """Ids of the jobs that were read for watches of many, statement by statement."""
    return [parameters["ids"] for text, parameters in sent if b"NULL AS workflow" in text]


async def test_a_job_is_read_once_it_is_in_one_of_the_states(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    matching = job_pb2.JobFilter(statuses=[COMPLETED])
    async with client.watching_jobs(matching) as watch:
        with statements_sent() as sent:
            job = await client.create()
            lease = await worker.lease_one()
            # longer than changes gather before they are read
            await asyncio.sleep(0.3)
            assert rows_read(sent) == []
            await worker.complete(lease)
            await watch.until(lambda seen: job.id in seen.jobs)
            assert rows_read(sent) == [[job.id]]


@asynccontextmanager
async def followed(
    database_url: str, hub: Hub, conditions: JobConditions
) -> AsyncIterator[AsyncIterator[WatchEvent]]:
    """A watch that goes no further than its events are asked for."""
    database = Database(database_url)
    changes = ChangeStore(database)
    feed = ChangeFeed(hub, changes, catch_up=0.2)
    jobs = JobStore(database, UserCaps(None, None))
    watches = JobsWatches(hub, feed, changes, jobs, ListingStore(database))
    running = asyncio.create_task(feed.run())
    watch = watches.watch(conditions, since=None, changes_only=False, keep_alive=60)
    try:
        async with aclosing(watch):  # type: ignore[type-var]  # it is a generator
            yield watch
    finally:
        running.cancel()
        await asyncio.wait([running])
        await database.close()


@pytest.mark.parametrize("in_opening", [True, False])
async def test_a_job_that_leaves_the_states_before_it_is_told_is_told_of_as_removed(
    database_url: str, sql: Sql, *, in_opening: bool
) -> None:
    hub = Hub()
    insert = "INSERT INTO generation_jobs (prompt) SELECT 'x' FROM generate_series(1, 5)"
    await sql.execute(insert)
    async with followed(database_url, hub, JobConditions(statuses=["cancelled"])) as watch:
        if in_opening:
            await sql.execute(END)
        else:
            assert (await anext(watch)).position is not None
            await sql.execute(END)
            hub.publish(JobChanged(1))
        # All five were read together; of the last it has not been told yet.
        first = await anext(watch)
        assert first.job is not None
        await sql.execute(RETRY, [5])
        hub.publish(JobChanged(5))
        await asyncio.sleep(0.5)  # until the change has been read, and noted or not
        told = [first]
        async with asyncio.timeout(20):
            while told[-1].removed is None:
                told.append(await anext(watch))
    assert [one.job.id for one in told if one.job] == [1, 2, 3, 4, 5]
    assert told[-1].removed == 5
