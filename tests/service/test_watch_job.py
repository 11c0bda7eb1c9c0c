"""WatchJob: first a snapshot, then whatever is newest, to the state the job rests in."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_error_pb2, job_pb2
from generation_jobs.v1 import worker_service_pb2 as workers_pb

from job_service.settings import Settings
from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    ProtocolClient,
    refused,
)
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, seconds


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"keep_alive": timedelta(seconds=0.3)})


async def test_from_the_snapshot_to_the_final_state(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    async with client.watching(job.id) as watch:
        assert watch.job == await client.get(job.id)

        lease = await worker.lease_one()
        assert (await watch.until(RUNNING)).attempt == 1

        await worker.progress(
            lease, 0.25, node_id="3", node_class="KSampler", step=7, steps=28, remaining=seconds(21)
        )
        while not (moved := watch.job).progress.fraction:
            await watch.next_job()
        assert moved.progress == job_pb2.JobProgress(
            attempt=1,
            fraction=0.25,
            phase=job_pb2.PROGRESS_PHASE_SAMPLING,
            node_id="3",
            node_class="KSampler",
            step=7,
            steps=28,
            remaining=seconds(21),
        )

        artifact = await worker.upload(lease, b"picture")
        await worker.complete(lease, artifact)
        done = await watch.until(COMPLETED)
        assert list(done.artifacts) == [artifact]
        assert done == await client.get(job.id)
        assert await watch.rest() == []


async def test_the_start_of_execution_is_seen_at_once(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    async with client.watching(job.id) as watch:
        await worker.progress(lease, 0.1)
        await worker.progress(lease, 0.2, running_for=seconds(1), prompt_id=lease.prompt_id)
        async with asyncio.timeout(2):
            while not watch.job.HasField("started_at"):
                await watch.next_job()
        assert watch.job.comfyui_prompt_id == lease.prompt_id


@pytest.mark.parametrize("end", [COMPLETED, FAILED, CANCELLED])
async def test_a_job_that_rests_is_one_message(
    client: ProtocolClient, worker: ProtocolWorker, end: "job_pb2.JobStatus.ValueType"
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    match end:
        case job_pb2.JOB_STATUS_COMPLETED:
            await worker.complete(lease)
        case job_pb2.JOB_STATUS_FAILED:
            await worker.fail(lease, job_error_pb2.ERROR_CODE_NODE_NOT_FOUND)
        case _:
            await client.cancel(job.id)
            await worker.release(lease)
    call = client.stub.WatchJob(pb.WatchJobRequest(id=job.id), timeout=20)
    (only,) = [message async for message in call]
    assert only.job.status == end
    assert await call.code() is grpc.StatusCode.OK


async def test_an_unknown_job_cannot_be_watched(client: ProtocolClient) -> None:
    for job_id, reason in ((4711, "JOB_NOT_FOUND"), (0, "INVALID_FIELDS")):

        async def watch(job_id: int = job_id) -> None:
            async with client.watching(job_id):
                pass

        assert (await refused(watch())).reason == reason


async def test_a_silent_stream_shows_that_it_is_alive(client: ProtocolClient) -> None:
    job = await client.create()
    async with client.watching(job.id) as watch:
        for _ in range(3):
            async with asyncio.timeout(3):
                while (await watch.next_message()).WhichOneof("event") != "keep_alive":
                    pass


async def test_a_change_made_in_sql_is_seen(client: ProtocolClient, sql: Sql) -> None:
    job = await client.create()
    async with client.watching(job.id) as watch:
        await sql.execute(
            "UPDATE generation_jobs SET status = 'cancelled', completed_at = now(),"
            " dispatchable = false WHERE id = %s",
            [job.id],
        )
        async with asyncio.timeout(8):
            assert (await watch.until(CANCELLED)).revision == 2
        assert await watch.rest() == []


async def test_a_job_deleted_in_sql_ends_the_watch(client: ProtocolClient, sql: Sql) -> None:
    job = await client.create()
    async with client.watching(job.id) as watch:
        await sql.execute("DELETE FROM generation_jobs WHERE id = %s", [job.id])
        assert (await refused(watch.rest())).reason == "JOB_NOT_FOUND"


async def test_after_a_reconnect_the_newest_state_comes_first(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    async with client.watching(job.id) as watch:
        assert watch.job.status == PENDING
    lease = await worker.lease_one()
    await worker.progress(lease, 0.5)
    async with client.watching(job.id) as watch:
        assert watch.job.status == RUNNING
        assert watch.job.progress.fraction == 0.5
    await worker.complete(lease)
    async with client.watching(job.id) as watch:
        assert watch.job.status == COMPLETED


async def test_a_hundred_watchers_all_see_the_end(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    snapshots = asyncio.Semaphore(0)

    async def follow() -> list[int]:
        async with client.watching(job.id) as watch:
            snapshots.release()
            return [message.job.status for message in await watch.rest() if message.job.id]

    watchers = [asyncio.create_task(follow()) for _ in range(100)]
    for _ in watchers:
        await snapshots.acquire()
    lease = await worker.lease_one()
    for step in range(20):
        await worker.progress(lease, step / 20)
    await worker.complete(lease)

    for states in await asyncio.gather(*watchers):
        assert states[-1] == COMPLETED
        assert states == sorted(states)


async def test_a_slow_watcher_misses_states_but_not_the_last(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    async with client.watching(job.id) as watch:
        lease = await worker.lease_one()
        for step in range(200):
            await worker.progress(lease, step / 200)
        await worker.complete(lease)
        messages = [message for message in await watch.rest() if message.job.id]
    assert messages[-1].job.status == COMPLETED
    fractions = [message.job.progress.fraction for message in messages[:-1]]
    assert fractions == sorted(fractions)


async def test_progress_never_falls_within_an_attempt_and_starts_anew_with_the_next(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.progress(lease, 0.8)
    await worker.progress(lease, 0.3)
    assert (await client.get(job.id)).progress.fraction == 0.8
    await worker.release(lease)
    assert not (await client.get(job.id)).HasField("progress")

    again = await worker.lease_one()
    assert (await client.get(job.id)).progress.fraction == 0
    await worker.progress(again, 0.1)
    progress = (await client.get(job.id)).progress
    assert (progress.fraction, progress.attempt) == (0.1, 2)


async def test_previews_come_to_those_who_asked_for_them(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    frame = workers_pb.PreviewFrame(content_type="image/jpeg", data=b"frame")
    async with (
        client.watching(job.id, include_previews=True) as watch,
        client.watching(job.id) as plain,
    ):
        await worker.progress(lease, 0.5, preview=frame)
        while (message := await watch.next_message()).WhichOneof("event") != "preview":
            pass
        assert message.preview == pb.Preview(
            job_id=job.id, attempt=1, content_type="image/jpeg", data=b"frame"
        )
        await worker.complete(lease)
        kinds = {message.WhichOneof("event") for message in await plain.rest()}
    assert "preview" not in kinds
    big = workers_pb.PreviewFrame(content_type="image/jpeg", data=bytes(256 * 1024 + 1))
    assert (await refused(worker.progress(lease, preview=big))).fields == (
        "reports[0].preview.data",
    )
