"""WatchJobs: the matching jobs, then each change; nothing is lost by an interruption."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import grpc
import psycopg
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from google.protobuf import field_mask_pb2, timestamp_pb2
from sqlalchemy import make_url

from job_service import server
from job_service.events import change_feed, jobs_watch
from job_service.settings import Settings
from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    PENDING,
    RUNNING,
    JobsWatch,
    ProtocolClient,
    refused,
)
from tests.service_fixture import Sql
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker

ALICE, BOB = str(uuid4()), str(uuid4())


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"keep_alive": timedelta(seconds=0.3)})


@pytest.fixture
async def elsewhere(
    service: str, service_settings: Settings, tmp_path: Path
) -> AsyncIterator[ProtocolClient]:
    """A client of a second replica on the same database."""
    settings = service_settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    async with (
        server.running(settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield ProtocolClient(channel)


def _with(*statuses: "job_pb2.JobStatus.ValueType") -> job_pb2.JobFilter:
    return job_pb2.JobFilter(statuses=statuses)


def _is(job_id: int, status: "job_pb2.JobStatus.ValueType") -> Callable[[JobsWatch], object]:
    return lambda watch: job_id in watch.jobs and watch.jobs[job_id].status == status


async def test_who_comes_late_sees_every_job_oldest_first(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    jobs = [await client.create() for _ in range(5)]
    await worker.complete(await worker.lease_one())
    await client.cancel(jobs[1].id)
    async with client.watching_jobs() as watch:
        assert list(watch.jobs) == [job.id for job in jobs]
        listed = (await client.list_jobs()).jobs
        assert {job.id: job for job in listed} == watch.jobs
        # Up to the end of the opening nothing says where to resume.
        assert [bool(message.resume_token) for message in watch.messages] == [False] * 5 + [True]


async def test_without_an_opening_only_changes_come(client: ProtocolClient) -> None:
    job = await client.create()
    async with client.watching_jobs(changes_only=True) as watch:
        assert not watch.jobs
        await client.cancel(job.id)
        await watch.until(lambda seen: seen.jobs)
        assert watch.jobs[job.id].status == CANCELLED


async def test_a_life_is_followed_with_its_progress(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    async with client.watching_jobs() as watch:
        job = await client.create()
        await watch.until(_is(job.id, PENDING))
        lease = await worker.lease_one()
        await watch.until(_is(job.id, RUNNING))
        await worker.progress(lease, 0.25)
        await watch.until(lambda seen: seen.jobs[job.id].progress.fraction == 0.25)
        await worker.progress(lease, 0.75)
        await watch.until(lambda seen: seen.jobs[job.id].progress.fraction == 0.75)
        await worker.complete(lease)
        await watch.until(_is(job.id, COMPLETED))
        await client.delete(job.id)
        await watch.until(lambda seen: seen.removed)
        assert watch.removed == [job.id]
        assert not watch.jobs


async def test_an_unchanged_job_is_not_told_twice(client: ProtocolClient) -> None:
    async with client.watching_jobs() as watch:
        job = await client.create()
        await watch.until(lambda seen: job.id in seen.jobs)
        for _ in range(3):
            assert (await watch.next_message()).WhichOneof("event") == "keep_alive"


async def test_jobs_come_and_go_with_their_state(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    async with (
        client.watching_jobs(_with(PENDING)) as waiting,
        client.watching_jobs(_with(RUNNING)) as running,
    ):
        job = await client.create()
        await waiting.until(lambda seen: job.id in seen.jobs)
        lease = await worker.lease_one()
        await waiting.until(lambda seen: seen.removed)
        await running.until(lambda seen: job.id in seen.jobs)
        await worker.release(lease)
        await waiting.until(lambda seen: job.id in seen.jobs)
        await running.until(lambda seen: seen.removed)
        await client.cancel(job.id)
        await waiting.until(lambda seen: len(seen.removed) == 2)
        assert running.removed == [job.id]


async def test_a_watch_of_one_user_hears_nothing_of_another(client: ProtocolClient) -> None:
    async with client.watching_jobs(job_pb2.JobFilter(user_id=ALICE)) as watch:
        others = await client.create(user_id=BOB)
        await client.cancel(others.id)
        await client.delete(others.id)
        own = await client.create(user_id=ALICE)
        await watch.until(lambda seen: own.id in seen.jobs)
    assert set(watch.jobs) == {own.id}
    assert not watch.removed
    async with client.watching_jobs(
        job_pb2.JobFilter(user_id=ALICE), resume_token=watch.token
    ) as again:
        await client.delete((await client.cancel((await client.create(user_id=BOB)).id)).id)
        await client.cancel(own.id)
        await again.until(_is(own.id, CANCELLED))
    assert not again.removed


async def test_words_and_labels_are_watched_for(client: ProtocolClient) -> None:
    wanted = job_pb2.JobFilter(search='"red fox" -snow', labels={"album": "7"})
    async with client.watching_jobs(wanted) as watch:
        await client.create(prompt="a fox, red", labels={"album": "7"})
        await client.create(prompt="a red fox in snow", labels={"album": "7"})
        await client.create(prompt="a red fox", labels={"album": "8"})
        fox = await client.create(prompt="a red fox", labels={"album": "7", "tag": "x"})
        await watch.until(lambda seen: seen.jobs)
        assert set(watch.jobs) == {fox.id}
        change = pb.UpdateJobRequest(
            job=job_pb2.GenerationJob(id=fox.id, negative_prompt="snow"),
            update_mask=field_mask_pb2.FieldMask(paths=["negative_prompt"]),
        )
        await client.stub.UpdateJob(change, timeout=20)
        await watch.until(lambda seen: seen.removed)


async def test_what_happens_during_an_interruption_is_told_after_it(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    matching = _with(PENDING, RUNNING)
    finished, deleted, kept = [await client.create() for _ in range(3)]
    async with client.watching_jobs(matching) as watch:
        assert set(watch.jobs) == {finished.id, deleted.id, kept.id}
    assert await worker.complete(await worker.lease_one()) == COMPLETED
    await client.cancel(deleted.id)
    await client.delete(deleted.id)
    new = await client.create()
    async with client.watching_jobs(matching, resume_token=watch.token) as again:
        assert set(again.jobs) == {new.id}
        assert {finished.id, deleted.id} <= set(again.removed)
        assert kept.id not in again.removed
        await client.cancel(kept.id)
        await again.until(lambda seen: kept.id in seen.removed)


async def test_a_transaction_that_commits_late_is_told(
    client: ProtocolClient, sql: Sql, database_url: str
) -> None:
    early, later = await client.create(), await client.create()
    plain = make_url(database_url).set(drivername="postgresql")
    async with await psycopg.AsyncConnection.connect(
        plain.render_as_string(hide_password=False)
    ) as slow:
        # The older transaction commits after the younger one was told, and after the token.
        await slow.execute("UPDATE generation_jobs SET content_id = 1 WHERE id = %s", [early.id])
        await sql.execute("UPDATE generation_jobs SET content_id = 2 WHERE id = %s", [later.id])
        async with client.watching_jobs() as live:
            assert live.jobs[later.id].content_id == 2
            assert not live.jobs[early.id].content_id
            await client.cancel(later.id)
            await live.until(_is(later.id, CANCELLED))
            token = live.token
            await slow.commit()
            await live.until(lambda seen: seen.jobs[early.id].content_id)
    async with client.watching_jobs(resume_token=token) as resumed:
        assert resumed.jobs[early.id].content_id == 1


async def test_a_token_of_another_filter_or_of_nothing_is_refused(client: ProtocolClient) -> None:
    async with client.watching_jobs(_with(PENDING)) as watch:
        token = watch.token

    for wrong in (
        pb.WatchJobsRequest(resume_token=token),
        pb.WatchJobsRequest(filter=_with(RUNNING), resume_token=token),
        pb.WatchJobsRequest(filter=_with(PENDING), resume_token=token[:-1]),
        pb.WatchJobsRequest(filter=_with(PENDING), resume_token="\u2603"),
    ):

        async def watch_it(request: pb.WatchJobsRequest = wrong) -> None:
            async for _ in client.stub.WatchJobs(request, timeout=20):
                pass

        error = await refused(watch_it())
        assert error.status is grpc.StatusCode.INVALID_ARGUMENT
        assert error.fields == ("resume_token",)


async def test_a_token_older_than_what_is_remembered_is_refused(
    client: ProtocolClient, sql: Sql
) -> None:
    gone, kept = await client.create(), await client.create()
    async with client.watching_jobs() as watch:
        old = watch.token
    await client.cancel(gone.id)
    await client.delete(gone.id)
    async with client.watching_jobs(resume_token=old) as resumed:
        assert gone.id in resumed.removed
        young = resumed.token
    await sql.execute("UPDATE job_tombstones SET deleted_at = now() - interval '25 hours'")
    await client.cancel(kept.id)
    await client.delete(kept.id)  # which wakes the upkeep
    async with asyncio.timeout(20):
        while (await (await sql.execute("SELECT count(*) FROM job_tombstones")).fetchone()) != (1,):
            await client.list_jobs()

    async def resume() -> None:
        async with client.watching_jobs(resume_token=old):
            pass

    error = await refused(resume())
    assert error.status is grpc.StatusCode.FAILED_PRECONDITION
    assert error.reason == "RESUME_TOKEN_EXPIRED"
    async with client.watching_jobs(resume_token=young) as watch:
        assert watch.removed == [kept.id]


async def test_a_token_from_a_future_that_was_lost_is_refused(
    client: ProtocolClient, sql: Sql
) -> None:
    for _ in range(20):
        await sql.execute("SELECT pg_current_xact_id()")
    async with client.watching_jobs() as watch:
        token = watch.token
    await sql.execute("SELECT pg_current_xact_id()")
    async with client.watching_jobs(resume_token=token) as resumed:
        assert not resumed.jobs
    # A token of a database that had come further, as after a restored backup.
    row = await (
        await sql.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    ).fetchone()
    assert row is not None
    further = _moved(token, int(row[0]) + 1000)

    async def resume() -> None:
        async with client.watching_jobs(resume_token=further):
            pass

    assert (await refused(resume())).reason == "RESUME_TOKEN_EXPIRED"


def _moved(token: str, xmin: int) -> str:
    """The token, at another position."""
    packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    return base64.urlsafe_b64encode(packed[:-8] + xmin.to_bytes(8, "big")).decode().rstrip("=")


async def test_a_slow_watch_is_bounded_and_ends_up_with_the_newest(
    client: ProtocolClient, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_feed, "MOST_PENDING", 50)
    monkeypatch.setattr(jobs_watch, "MOST_REMEMBERED", 20)
    prompt = "x" * 20_000
    async with client.watching_jobs() as watch:
        await sql.execute(
            "INSERT INTO generation_jobs (prompt) SELECT %s FROM generate_series(1, 300)", [prompt]
        )
        # Nobody reads: what the stream does not hold is not held elsewhere.
        for content_id in range(1, 6):
            await sql.execute("UPDATE generation_jobs SET content_id = %s", [content_id])
            await client.create(prompt=prompt)
        await sql.execute("DELETE FROM generation_jobs WHERE id % 3 = 0")
        rows = await sql.execute("SELECT id, revision FROM generation_jobs")
        final: dict[int, int] = dict(await rows.fetchall())
        await watch.until(
            lambda seen: {job.id: job.revision for job in seen.jobs.values()} == final
        )
        told = [message.job for message in watch.messages if message.HasField("job")]
        assert len(told) < 300 * 5


async def test_changes_at_another_replica_and_in_sql_are_found(
    client: ProtocolClient, elsewhere: ProtocolClient, sql: Sql
) -> None:
    job = await client.create()
    async with elsewhere.watching_jobs() as watch:
        await client.cancel(job.id)
        async with asyncio.timeout(8):
            await watch.until(_is(job.id, CANCELLED))
        await sql.execute("DELETE FROM generation_jobs")
        async with asyncio.timeout(8):
            await watch.until(lambda seen: seen.removed)
        token = watch.token
    new = await elsewhere.create()
    async with client.watching_jobs(resume_token=token) as here:
        assert set(here.jobs) == {new.id}


FILTERS = [
    job_pb2.JobFilter(),
    _with(PENDING),
    _with(RUNNING, COMPLETED),
    job_pb2.JobFilter(user_id=ALICE),
    job_pb2.JobFilter(user_id=BOB, statuses=[CANCELLED]),
    job_pb2.JobFilter(labels={"album": "1"}, statuses=[PENDING, RUNNING]),
    job_pb2.JobFilter(search="fox -snow"),
    job_pb2.JobFilter(completed_after=timestamp_pb2.Timestamp(seconds=1), user_id=ALICE),
    job_pb2.JobFilter(ids=[1, 3, 5, 7, 9, 11]),
]


async def _follow(
    matching: job_pb2.JobFilter, replicas: list[ProtocolClient], seed: int, ended: asyncio.Event
) -> None:
    """Watch, break off now and then and go on at either replica, until all is as a list shows."""
    drawn, token = random.Random(seed), ""
    known: dict[int, int] = {}
    while True:
        request = pb.WatchJobsRequest(filter=matching, resume_token=token)
        call = drawn.choice(replicas).stub.WatchJobs(request, timeout=60)
        left = drawn.randrange(2, 12)
        async for message in call:
            token = message.resume_token or token
            if message.HasField("job"):
                known[message.job.id] = message.job.revision
            known.pop(message.removed_job_id, None)
            left -= bool(token)
            if left <= 0 and not ended.is_set():
                break
            if ended.is_set() and message.HasField("keep_alive"):
                page = await replicas[0].list_jobs(filter=matching, page_size=1000)
                if known == {job.id: job.revision for job in page.jobs}:
                    call.cancel()
                    return
        call.cancel()


async def _change(client: ProtocolClient, worker: ProtocolWorker, drawn: random.Random) -> None:
    """Something that the state of the jobs allows."""
    jobs = (await client.list_jobs(page_size=1000)).jobs
    job = drawn.choice(jobs) if jobs and drawn.random() < 0.6 else None
    match job.status if job else None:
        case job_pb2.JOB_STATUS_PENDING if job and drawn.random() < 0.5:
            edited = job_pb2.GenerationJob(
                id=job.id,
                negative_prompt=drawn.choice(["snow", "rain"]),
                labels={"album": str(drawn.randrange(2))},
            )
            mask = field_mask_pb2.FieldMask(paths=["negative_prompt", "labels"])
            await client.stub.UpdateJob(
                pb.UpdateJobRequest(job=edited, update_mask=mask), timeout=20
            )
        case job_pb2.JOB_STATUS_PENDING if job:
            for lease in await worker.lease(wait=0):
                await worker.complete(lease)
        case job_pb2.JOB_STATUS_CANCELLED if job and drawn.random() < 0.5:
            await client.stub.RetryJob(pb.RetryJobRequest(id=job.id), timeout=20)
        case job_pb2.JOB_STATUS_CANCELLED | job_pb2.JOB_STATUS_COMPLETED if job:
            await client.delete(job.id)
        case _:
            created = await client.create(
                user_id=drawn.choice([ALICE, BOB]),
                prompt=drawn.choice(["a fox", "a hen"]),
                labels={"album": str(drawn.randrange(2))},
            )
            if drawn.random() < 0.3:
                await client.cancel(created.id)


async def test_whatever_happens_a_watch_ends_up_with_what_a_list_shows(
    client: ProtocolClient, worker: ProtocolWorker, elsewhere: ProtocolClient
) -> None:
    drawn, ended = random.Random(4711), asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for seed, matching in enumerate(FILTERS):
            group.create_task(_follow(matching, [client, elsewhere], seed, ended))
        for _ in range(80):
            await _change(client, worker, drawn)
        ended.set()


async def test_idle_watches_share_few_statements(client: ProtocolClient) -> None:
    async with asyncio.TaskGroup() as group:
        watches: asyncio.Queue[JobsWatch] = asyncio.Queue()
        done = asyncio.Event()

        async def follow() -> None:
            async with client.watching_jobs() as watch:
                watches.put_nowait(watch)
                await done.wait()

        for _ in range(50):
            group.create_task(follow())
        all_of_them = [await watches.get() for _ in range(50)]
        seconds = 6
        with statements_sent() as sent:
            # A keep-alive comes every 0.3 s; nothing else happens.
            for _ in range(seconds * 3):
                await all_of_them[0].next_message()
        assert len(sent) < seconds, [text[:60] for text, _ in sent]
        with statements_sent() as sent:
            job = await client.create()
            for watch in all_of_them:
                await watch.until(lambda seen: job.id in seen.jobs)
        assert len(sent) < 20, [text[:60] for text, _ in sent]
        done.set()


async def test_a_stopping_replica_ends_its_watches_and_another_goes_on(
    client: ProtocolClient, service_settings: Settings, tmp_path: Path
) -> None:
    settings = service_settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    async with AsyncExitStack() as channels:
        async with server.running(settings) as address:
            channel = await channels.enter_async_context(grpc.aio.insecure_channel(address))
            call = ProtocolClient(channel).stub.WatchJobs(pb.WatchJobsRequest(), timeout=60)
            watch = JobsWatch(call)
            while not watch.token:
                await watch.next_message()
        error = await refused(watch.until(lambda _: False))
        assert error.reason == "SHUTTING_DOWN"
    job = await client.create()
    async with client.watching_jobs(resume_token=watch.token) as resumed:
        assert set(resumed.jobs) == {job.id}
