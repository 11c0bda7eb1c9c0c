"""JobServiceClient and the real service."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from generation_jobs.v1.artifact_pb2 import ArtifactRole
from generation_jobs.v1.generation_job_service_pb2 import (
    CreateJobRequest,
    WatchJobResponse,
    WatchJobsResponse,
)
from generation_jobs.v1.job_pb2 import GenerationJob, JobFilter, JobStatus

from job_service import server
from job_service.client import JobServiceClient, JobServiceError
from job_service.settings import Settings
from tests.service.client.hand_worker import CHECKPOINT, HandWorker

PICTURE = bytes(range(256)) * 4_000


def a_job(**fields: object) -> GenerationJob:
    return GenerationJob(prompt="a lighthouse", checkpoint_model=CHECKPOINT, **fields)  # type: ignore[arg-type]


async def test_a_job_from_creation_to_its_picture(
    jobs: JobServiceClient, worker: HandWorker, tmp_path: Path
) -> None:
    created = await jobs.create_job(a_job())
    assert created.status == JobStatus.JOB_STATUS_PENDING
    assert (created.width, created.height, created.sampler.steps) == (832, 1216, 28)

    making = worker.making(PICTURE)
    seen = [update.job async for update in jobs.watch(created.id)]
    await making

    assert seen[0].id == created.id
    assert seen[-1].status == JobStatus.JOB_STATUS_COMPLETED
    assert await jobs.get_job(created.id) == seen[-1]
    output = seen[-1].artifacts[0]
    assert output.role == ArtifactRole.ARTIFACT_ROLE_OUTPUT
    counts: list[int] = []
    assert await jobs.download(output.id, tmp_path / "a", on_bytes=counts.append) == output
    assert (tmp_path / "a").read_bytes() == PICTURE
    assert counts[-1] == len(PICTURE)
    assert len(counts) > 1

    assert await jobs.delete_job(created.id)
    with pytest.raises(JobServiceError) as caught:
        await jobs.get_job(created.id)
    assert (caught.value.status, caught.value.reason) == (
        grpc.StatusCode.NOT_FOUND,
        "JOB_NOT_FOUND",
    )


async def test_a_thumbnail_by_its_size(
    jobs: JobServiceClient, worker: HandWorker, tmp_path: Path
) -> None:
    created = await jobs.create_job(a_job())
    await worker.make(PICTURE)
    output = (await jobs.get_job(created.id)).artifacts[0]
    await jobs.download(output.id, tmp_path / "small", thumbnail_size=150)
    assert (tmp_path / "small").read_bytes() == PICTURE[:10]


async def test_the_same_request_id_is_the_same_job(jobs: JobServiceClient) -> None:
    first = await jobs.create_job(a_job(), "one")
    assert await jobs.create_job(a_job(), "one") == first
    with pytest.raises(JobServiceError) as caught:
        await jobs.create_job(a_job(width=512), "one")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_without_a_request_id_they_are_two(jobs: JobServiceClient) -> None:
    first, second = await jobs.create_job(a_job()), await jobs.create_job(a_job())
    assert first.id != second.id


async def test_many_jobs_in_one_call_are_all_made_or_none(jobs: JobServiceClient) -> None:
    wanted = [CreateJobRequest(job=a_job()), CreateJobRequest(job=a_job(), request_id="2")]
    first, second = await jobs.create_jobs(wanted)
    assert first.id < second.id
    assert (await jobs.create_jobs(wanted))[1].id == second.id

    with pytest.raises(JobServiceError) as caught:
        await jobs.create_jobs([*wanted, CreateJobRequest(job=a_job(width=1))])
    assert [one.subject for one in caught.value.violations] == ["requests[2].job.width"]
    assert len([job async for job in jobs.list_jobs()]) == 3


async def test_a_refusal_names_the_fields(jobs: JobServiceClient) -> None:
    with pytest.raises(JobServiceError) as caught:
        await jobs.create_job(a_job(width=63, batch_size=-1))
    assert caught.value.status is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.reason == "INVALID_FIELDS"
    named = {violation.subject.removeprefix("job.") for violation in caught.value.violations}
    assert named == {"width", "batch_size"}


async def test_listing_goes_through_all_pages(jobs: JobServiceClient) -> None:
    created = [(await jobs.create_job(a_job(labels={"n": str(n)}))).id for n in range(205)]
    cancelled = created[3]
    await jobs.cancel_job(cancelled, "not that one")
    pending = JobFilter(statuses=[JobStatus.JOB_STATUS_PENDING])

    newest_first = [job.id async for job in jobs.list_jobs(pending)]
    newest = jobs.list_jobs(limit=2)

    assert newest_first == [job_id for job_id in reversed(created) if job_id != cancelled]
    assert [job.id async for job in newest] == created[:-3:-1]


async def test_cancelling_tells_the_watcher(jobs: JobServiceClient) -> None:
    created = await jobs.create_job(a_job())
    updates = jobs.watch(created.id)
    assert (await anext(updates)).job.status == JobStatus.JOB_STATUS_PENDING
    await jobs.cancel_job(created.id, "enough")
    last = [update.job async for update in updates][-1]
    assert (last.status, last.cancel_reason) == (JobStatus.JOB_STATUS_CANCELLED, "enough")


async def test_a_watch_and_a_create_outlive_a_restart(service_settings: Settings) -> None:
    broken = asyncio.Event()
    async with asyncio.timeout(60), AsyncExitStack() as connections:
        async with server.running(service_settings) as address:
            client = JobServiceClient(address, retry_for=30.0)
            await connections.enter_async_context(client)
            created = await client.create_job(a_job())
            updates = client.watch(created.id, on_interruption=lambda _: broken.set())
            assert (await anext(updates)).job.id == created.id
            following = asyncio.create_task(_rest_of(updates))
        await broken.wait()
        creating = asyncio.create_task(client.create_job(a_job(), "while it was away"))

        again = service_settings.model_copy(update={"listen": address})
        async with server.running(again):
            second = await creating
            await client.cancel_job(created.id)
            assert await following == JobStatus.JOB_STATUS_CANCELLED
            assert [job.id async for job in client.list_jobs()] == [second.id, created.id]


async def test_a_watch_of_many_jobs_outlives_a_restart(service_settings: Settings) -> None:
    broken = asyncio.Event()
    async with asyncio.timeout(60), AsyncExitStack() as connections:
        async with server.running(service_settings) as address:
            client = JobServiceClient(address, retry_for=30.0)
            await connections.enter_async_context(client)
            created = await client.create_job(a_job())
            updates = client.watch_jobs(on_interruption=lambda _: broken.set())
            assert (await anext(updates)).job.id == created.id
            assert (await anext(updates)).resume_token
            following = asyncio.create_task(_removed_by(updates))
        await broken.wait()
        again = service_settings.model_copy(update={"listen": address})
        async with server.running(again):
            await client.cancel_job(created.id)
            await client.delete_job(created.id)
            assert await following == created.id


async def test_a_directory_has_no_urls(jobs: JobServiceClient, worker: HandWorker) -> None:
    created = await jobs.create_job(a_job())
    await worker.making(PICTURE)
    output = (await jobs.get_job(created.id)).artifacts[0]
    with pytest.raises(JobServiceError) as caught:
        await jobs.artifact_url(output.id)
    assert caught.value.reason == "NO_ARTIFACT_URLS"


async def _removed_by(updates: "AsyncGenerator[WatchJobsResponse, None]") -> int:
    async for update in updates:
        if update.removed_job_id:
            return update.removed_job_id
    raise AssertionError("the watch ended")


async def _rest_of(updates: "AsyncGenerator[WatchJobResponse, None]") -> JobStatus.ValueType:
    statuses = [update.job.status async for update in updates]
    return statuses[-1]
