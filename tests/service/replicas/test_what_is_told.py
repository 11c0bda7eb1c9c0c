"""What is notified, and that nothing is when nobody needs it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from job_service import server
from job_service.events.hub import CatchUp, JobChanged
from job_service.events.peer_messages import Hello, Leaving, Message, Progress, parsed, payloads
from job_service.settings import Settings
from tests.jobs_protocol import COMPLETED
from tests.service.replicas.conftest import Replica, StartReplica
from tests.service_fixture import Sql
from tests.statements_sent import Sent, statements_sent

LISTEN = b"LISTEN generation_jobs"


def notifications(sent: list[Sent]) -> list[Message]:
    """What these statements have notified."""
    told = [parameters["payloads"] for statement, parameters in sent if b"pg_notify" in statement]
    return [parsed(payload) for one in told for payload in one]


async def one_job(replica: Replica) -> None:
    """A job from its creation to its end, with progress and previews."""
    worker = await replica.known_worker()
    job = await replica.client.create()
    async with replica.client.watching(job.id, include_previews=True) as watch:
        lease = await worker.lease_one()
        await worker.progress(lease, 0.25)
        await worker.progress(lease, 0.5, preview={"content_type": "image/png", "data": b"frame"})
        await worker.complete(lease)
        await watch.until(COMPLETED)


@asynccontextmanager
async def listening(database_url: str) -> AsyncIterator["asyncio.Queue[Message]"]:
    """Everything that is notified from now on."""
    plain = make_url(database_url).set(drivername="postgresql")
    heard: asyncio.Queue[Message] = asyncio.Queue()

    async def listen(connection: psycopg.AsyncConnection[Any]) -> None:
        async for notification in connection.notifies():
            heard.put_nowait(parsed(notification.payload))

    async with await psycopg.AsyncConnection.connect(
        plain.render_as_string(hide_password=False), autocommit=True
    ) as connection:
        await connection.execute(LISTEN)
        task = asyncio.create_task(listen(connection))
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.mark.heavy
async def test_a_replica_that_is_alone_tells_nobody_anything(
    start_replica: StartReplica, database_url: str
) -> None:
    async with listening(database_url) as heard:
        alone = await start_replica()
        hello = await asyncio.wait_for(heard.get(), 20)
        assert Hello() in hello.items
        # by its first sign of life it knows that nobody has answered
        assert (await asyncio.wait_for(heard.get(), 30)).items == []
    with statements_sent() as sent:
        await one_job(alone)
    assert [message.items for message in notifications(sent) if message.items] == []


async def test_what_happens_together_is_told_together(here: Replica, there: Replica) -> None:
    await here.known_worker("box-1")
    with statements_sent() as sent:
        jobs = await asyncio.gather(*(here.client.create() for _ in range(200)))
        async with there.client.watching_jobs() as watch:
            await watch.until(lambda seen: len(seen.jobs) == len(jobs))
    told = notifications(sent)
    counts = Counter(item for message in told for item in message.items)
    assert {counts[JobChanged(job.id)] for job in jobs} == {1}
    assert len(told) < len(jobs) / 4


async def test_calls_that_change_nothing_tell_nothing(here: Replica, there: Replica) -> None:
    worker = await here.known_worker()
    job = await there.client.create()
    lease = await worker.lease_one()
    with statements_sent() as sent:
        for _ in range(20):
            await worker.beat(lease)
            await worker.lease(wait=0)
            await there.client.get(job.id)
    # signs of life, and perhaps the end of what came before
    assert len(notifications(sent)) < 10


async def test_progress_is_told_only_while_it_is_watched_elsewhere(
    here: Replica, there: Replica
) -> None:
    worker = await here.known_worker()
    unwatched, watched = await here.client.create(), await here.client.create()
    leases = {lease.job_id: lease for lease in await worker.lease(2)}
    with statements_sent() as sent:
        async with there.client.watching(watched.id) as watch:
            for step in range(1, 10):
                await worker.progress(leases[unwatched.id], step / 10)
                await worker.progress(leases[watched.id], step / 10)
            while watch.job.progress.fraction < 0.9 - 1e-6:
                await watch.next_job()
    told = [item for message in notifications(sent) for item in message.items]
    assert {item.job_id for item in told if isinstance(item, Progress)} == {watched.id}


async def test_a_replica_that_stops_takes_its_leave(
    service_settings: Settings, here: Replica, database_url: str
) -> None:
    async with listening(database_url) as heard:
        async with server.running(service_settings):
            speakers: set[str] = set()
            while len(speakers) < 2:
                speakers.add((await asyncio.wait_for(heard.get(), 20)).sender)
        while Leaving() not in (await asyncio.wait_for(heard.get(), 20)).items:
            pass


async def test_what_makes_no_sense_has_everything_read_again(
    here: Replica, there: Replica, sql: Sql
) -> None:
    """As from somebody else who notifies on the same channel."""
    async with there.client.watching_jobs() as watch:
        for payload in ("", "{", '{"from":"x","job":["many"]}'):
            await sql.execute(
                "INSERT INTO generation_jobs (prompt, dispatchable) VALUES (%s, false)", ["a fox"]
            )
            await sql.execute("SELECT pg_notify('generation_jobs', %s)", [payload])
            count = len(watch.jobs)
            while len(watch.jobs) == count:
                await watch.next_message()


async def test_others_can_have_everything_read_again(
    here: Replica, there: Replica, sql: Sql
) -> None:
    """Such as whoever has changed rows by hand."""
    async with there.client.watching_jobs() as watch, here.client.watching_jobs() as other:
        await sql.execute("INSERT INTO generation_jobs (prompt) VALUES ('a fox')")
        (payload,) = payloads("somebody", [CatchUp()])
        await sql.execute("SELECT pg_notify('generation_jobs', %s)", [payload])
        await watch.until(lambda seen: seen.jobs)
        await other.until(lambda seen: seen.jobs)
