"""Watches show what happens at another replica as it happens."""

import asyncio
import time

from generation_jobs.v1 import generation_job_service_pb2 as jobs_pb
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import CANCELLED, COMPLETED, RUNNING, Watch
from tests.service.replicas.conftest import Replica
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker


async def next_preview(watch: Watch) -> jobs_pb.Preview:
    while (message := await watch.next_message()).WhichOneof("event") != "preview":
        pass
    return message.preview


async def test_a_watch_sees_progress_that_is_reported_to_another_replica(
    here: Replica, there: Replica
) -> None:
    worker = await here.known_worker()
    job = await here.client.create()
    async with there.client.watching(job.id) as watch:
        lease = await worker.lease_one()
        await watch.until(RUNNING)
        # The first report changes the row. The others are written down once a second at most, and
        # that changes nothing for which the row would be read.
        for fraction in (0.125, 0.25, 0.5, 0.75):
            await worker.progress(lease, fraction, step=3, steps=20)
            while (await watch.next_job()).progress.fraction < fraction:
                pass
            assert watch.job.progress.fraction == fraction
            assert watch.job.progress.step == 3
        await worker.complete(lease)
        assert (await watch.until(COMPLETED)).attempt == 1


async def test_a_watch_that_begins_sees_what_was_reported_last(
    here: Replica, there: Replica
) -> None:
    worker = await here.known_worker()
    job = await here.client.create()
    lease = await worker.lease_one()
    await worker.progress(lease, 0.125)  # this one changes the row
    await worker.progress(lease, 0.5, preview={"content_type": "image/png", "data": b"frame"})
    async with there.client.watching(job.id, include_previews=True) as watch:
        fraction, frame = watch.job.progress.fraction, b""
        while (fraction, frame) != (0.5, b"frame"):
            message = await watch.next_message()
            fraction = max(fraction, message.job.progress.fraction)
            frame = message.preview.data or frame
    async with there.client.watching_jobs() as watch_of_all:
        while watch_of_all.jobs[job.id].progress.fraction < 0.5:
            await watch_of_all.next_message()


async def test_progress_reported_to_either_replica_never_goes_back(
    here: Replica, there: Replica
) -> None:
    """A load balancer takes one report here and the next there."""
    worker = await here.known_worker()
    elsewhere = there.worker()
    elsewhere.identity.CopyFrom(worker.identity)
    job = await here.client.create()
    lease = await worker.lease_one()
    seen = []
    async with there.client.watching(job.id) as watch:
        for step in range(1, 11):
            await (worker if step % 2 else elsewhere).progress(lease, step / 10)
            while watch.job.progress.fraction < step / 10 - 1e-6:
                seen.append((await watch.next_job()).progress.fraction)
    assert seen == sorted(seen)


async def test_a_watch_sees_previews_that_are_reported_to_another_replica(
    here: Replica, there: Replica, sql: Sql
) -> None:
    worker = await here.known_worker()
    job = await here.client.create()
    lease = await worker.lease_one()
    async with there.client.watching(job.id, include_previews=True) as watch:
        await report_previews_until_seen(worker, lease, watch, b"first")
        await report_previews_until_seen(worker, lease, watch, b"second")
        await worker.complete(lease)
        assert (await watch.until(COMPLETED)).id == job.id
    rows = await (await sql.execute("SELECT job_id, attempt FROM job_previews")).fetchall()
    assert rows == [(job.id, 1)]


async def report_previews_until_seen(
    worker: ProtocolWorker, lease: pb.Lease, watch: Watch, frame: bytes
) -> None:
    """A frame may be left out for the next one, so it is reported until it is shown."""

    async def report() -> None:
        preview = pb.PreviewFrame(content_type="image/jpeg", data=frame)
        while True:
            await worker.progress(lease, 0.5, preview=preview)
            await asyncio.sleep(0.1)

    reporting = asyncio.create_task(report())
    try:
        while (shown := await next_preview(watch)).data != frame:
            pass
    finally:
        reporting.cancel()
    assert (shown.content_type, shown.attempt) == ("image/jpeg", 1)


async def test_previews_that_nobody_watches_elsewhere_stay_where_they_are(
    here: Replica, there: Replica, sql: Sql
) -> None:
    worker = await here.known_worker()
    job = await here.client.create()
    lease = await worker.lease_one()
    async with (
        there.client.watching(job.id),
        here.client.watching(job.id, include_previews=True) as watch,
    ):
        await report_previews_until_seen(worker, lease, watch, b"frame")
        await worker.complete(lease)
        await watch.until(COMPLETED)
    assert await (await sql.execute("SELECT count(*) FROM job_previews")).fetchone() == (0,)


async def test_previews_that_were_read_long_ago_are_removed(here: Replica, sql: Sql) -> None:
    kept, watched, deleted = [await here.client.create() for _ in range(3)]
    await sql.execute(
        "INSERT INTO job_previews (job_id, attempt, content_type, data, updated_at)"
        " SELECT id, 1, 'image/png', '', now() - interval '2 minutes' * (id = %s)::integer"
        " FROM generation_jobs WHERE id <> %s",
        [kept.id, deleted.id],
    )
    await here.client.cancel(deleted.id)
    await here.client.delete(deleted.id)  # which has the sweep look
    deadline = time.monotonic() + 30
    while [*await (await sql.execute("SELECT job_id FROM job_previews")).fetchall()] != [
        (watched.id,)
    ]:
        assert time.monotonic() < deadline
    assert (await here.client.get(kept.id)).id == kept.id


async def test_a_watch_of_many_jobs_sees_what_happens_at_another_replica(
    here: Replica, there: Replica
) -> None:
    worker = await here.known_worker()
    async with there.client.watching_jobs() as watch:
        job = await here.client.create()
        await watch.until(lambda seen: job.id in seen.jobs)
        lease = await worker.lease_one()
        await watch.until(lambda seen: seen.jobs[job.id].status == RUNNING)
        for fraction in (0.125, 0.25, 0.5):
            await worker.progress(lease, fraction)
            while watch.jobs[job.id].progress.fraction != fraction:
                await watch.next_message()
        await worker.complete(lease)
        await watch.until(lambda seen: seen.jobs[job.id].status == COMPLETED)
        other = await here.client.create()
        await here.client.cancel(other.id)
        await watch.until(
            lambda seen: other.id in seen.jobs and seen.jobs[other.id].status == CANCELLED
        )
        await here.client.delete(other.id)
        await watch.until(lambda seen: other.id in seen.removed)
