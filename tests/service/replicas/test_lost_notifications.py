"""Connections that listen are lost, and so are notifications: nothing else is."""

import asyncio
import time
from collections.abc import Set
from contextlib import AsyncExitStack
from datetime import timedelta

from generation_jobs.v1 import generation_job_service_pb2 as jobs_pb
from generation_jobs.v1 import worker_service_pb2 as pb
from sqlalchemy import URL, make_url

from tests.jobs_protocol import COMPLETED, RUNNING, a_job
from tests.postgres_line import line_to, over
from tests.service.replicas.conftest import Replica, StartReplica
from tests.service_fixture import Sql
from tests.worker_protocol import verdicts

LISTENERS = """
FROM pg_stat_activity
WHERE application_name = 'job_service listener' AND datname = current_database()
"""


async def listeners(sql: Sql) -> set[int]:
    """Process ids of the connections that listen."""
    return {pid for (pid,) in await (await sql.execute(f"SELECT pid {LISTENERS}")).fetchall()}


async def until_listening(sql: Sql, count: int, but: Set[int] = frozenset()) -> None:
    """Wait until so many connections listen that are not among ``but``."""
    deadline = time.monotonic() + 30
    while len(await listeners(sql) - but) != count:
        assert time.monotonic() < deadline


async def test_connections_that_are_terminated_are_opened_again_and_nothing_is_lost(
    here: Replica, there: Replica, sql: Sql
) -> None:
    worker = await there.known_worker()
    for _ in range(3):
        await until_listening(sql, 2)
        before = await listeners(sql)
        waiting = await there.holding(worker.lease_one(wait=30))
        await sql.execute(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
        job = await here.client.create()
        lease = await waiting
        assert lease.job_id == job.id
        beat = await there.holding(worker.beat(lease, wait=60))
        await sql.execute(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
        await here.client.cancel(job.id)
        told = verdicts(await asyncio.wait_for(beat, 30))
        assert told == {lease.lease_token: pb.VERDICT_CANCEL}
        await worker.release(lease, pb.RELEASE_REASON_CANCELLED)
        await until_listening(sql, 2, but=before)


async def test_what_happened_while_nothing_was_heard_is_found_once_it_is_again(
    start_replica: StartReplica, here: Replica, database_url: str, sql: Sql
) -> None:
    url = make_url(database_url)
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(line_to(url).open())
        there = await start_replica(listen_database_url=over(line, url))
        await until_listening(sql, 2)
        busy, idle = await there.known_worker("busy"), await there.known_worker("idle")
        job = await here.client.create()
        lease = await busy.lease_one()
        watch = await stack.enter_async_context(there.client.watching(job.id))
        watch_of_all = await stack.enter_async_context(there.client.watching_jobs())
        beat = await there.holding(busy.beat(lease, wait=60))
        waiting = await there.holding(idle.lease_one(wait=60))

        await line.cut()
        await until_listening(sql, 1)
        elsewhere = await here.known_worker("elsewhere")
        other = await here.client.create()
        third = await elsewhere.lease(wait=0)
        taken = {one.job_id for one in third}
        await here.client.cancel(job.id)
        assert not beat.done()
        assert taken == {other.id}
        assert await elsewhere.release(third[0], pb.RELEASE_REASON_BACKEND_GONE)
        await here.operator.drain("idle")
        await here.operator.resume("idle")
        await asyncio.sleep(0.5)
        assert not beat.done()
        assert not waiting.done()

        await line.mend()
        told = verdicts(await asyncio.wait_for(beat, 30))
        assert told == {lease.lease_token: pb.VERDICT_CANCEL}
        await watch_of_all.until(lambda seen: seen.jobs[job.id].HasField("cancel_requested_at"))
        await watch.next_job()
        new = await here.client.create()
        assert (await waiting).job_id in {other.id, new.id}


async def test_a_replica_that_hears_nothing_finds_everything_by_reading(
    start_replica: StartReplica, here: Replica, postgres_server: URL, database_url: str
) -> None:
    """As behind a pooler that gives connections to transactions: LISTEN succeeds, in vain."""
    deaf = make_url(database_url).set(database=postgres_server.database)
    there = await start_replica(
        listen_database_url=deaf.render_as_string(hide_password=False),
        catch_up_interval=timedelta(seconds=0.5),
        lease_ttl=timedelta(seconds=6),
    )
    worker = await there.known_worker(checkpoints=["flux.safetensors"])
    waiting = await there.holding(worker.lease_one(wait=30))
    job = await here.client.create(checkpoint_model="flux.safetensors")
    lease = await waiting
    async with there.client.watching(job.id) as watch, there.client.watching_jobs() as watch_of_all:
        await here.client.cancel(job.id)
        while verdicts(await worker.beat(lease, wait=1))[lease.lease_token] != pb.VERDICT_CANCEL:
            pass
        await watch_of_all.until(lambda seen: seen.jobs[job.id].HasField("cancel_requested_at"))
        while not watch.job.HasField("cancel_requested_at"):
            await watch.next_job()


async def test_more_than_can_be_told_one_by_one_is_found_all_the_same(
    start_replica: StartReplica, there: Replica
) -> None:
    """Four batches at once are more than what goes into some notifications."""
    here = await start_replica(create_burst_per_user=10_000)
    worker = await there.known_worker()
    waiting = await there.holding(worker.lease_one(wait=30))
    async with there.client.watching_jobs() as watch:
        batches = await asyncio.gather(
            *(
                here.client.stub.BatchCreateJobs(
                    jobs_pb.BatchCreateJobsRequest(
                        requests=[jobs_pb.CreateJobRequest(job=a_job()) for _ in range(1000)]
                    ),
                    timeout=60,
                )
                for _ in range(4)
            )
        )
        ids = {job.id for batch in batches for job in batch.jobs}
        await watch.until(lambda seen: ids <= seen.jobs.keys())
    lease = await waiting
    assert lease.job_id in ids
    assert (await there.client.get(lease.job_id)).status == RUNNING
    assert await worker.complete(lease) == COMPLETED
