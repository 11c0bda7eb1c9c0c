"""What is repeated, what never is, and when repeating ends."""

from datetime import timedelta

import grpc
import pytest
from generation_jobs.v1.generation_job_service_pb2 import (
    BatchCreateJobsRequest,
    BatchCreateJobsResponse,
    CancelJobResponse,
    CreateJobRequest,
    CreateJobResponse,
    GetJobResponse,
    ListJobsRequest,
    ListJobsResponse,
)
from generation_jobs.v1.job_pb2 import GenerationJob, JobFilter, JobStatus

from job_service.client import JobServiceClient, JobServiceError
from tests.unit.client.messages import a_job, failure, invalid, retry_after, unavailable
from tests.unit.client.scripted_service import ScriptedService


async def test_a_read_is_repeated_until_the_service_is_back(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("GetJob", unavailable())
    scripted.script("GetJob", unavailable())
    scripted.script("GetJob", GetJobResponse(job=a_job(JobStatus.JOB_STATUS_PENDING)))

    assert (await client.get_job(7)).id == 7


async def test_create_job_is_repeated_with_the_request_id_it_drew(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    for _ in range(2):
        scripted.script("CreateJob", unavailable())
        scripted.script("CreateJob", CreateJobResponse(job=GenerationJob(id=7)))
        await client.create_job(GenerationJob(prompt="a lighthouse"))

    drawn = [
        request.request_id
        for request in scripted.requests["CreateJob"]
        if isinstance(request, CreateJobRequest)
    ]
    assert drawn[0] == drawn[1] != ""
    assert drawn[2] == drawn[3] != drawn[0]


async def test_create_job_sends_the_given_request_id(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("CreateJob", CreateJobResponse(job=GenerationJob(id=7)))
    await client.create_job(GenerationJob(prompt="a lighthouse"), "mine")
    assert scripted.requests["CreateJob"] == [
        CreateJobRequest(job=GenerationJob(prompt="a lighthouse"), request_id="mine")
    ]


async def test_create_jobs_is_repeated_with_the_request_ids_it_drew_and_was_given(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("BatchCreateJobs", unavailable())
    scripted.script(
        "BatchCreateJobs",
        BatchCreateJobsResponse(jobs=[GenerationJob(id=7), GenerationJob(id=8)]),
    )
    given = CreateJobRequest(job=GenerationJob(prompt="a lighthouse"), request_id="mine")
    without = CreateJobRequest(job=GenerationJob(prompt="a storm"))

    assert [job.id for job in await client.create_jobs([given, without])] == [7, 8]

    first, second = scripted.requests["BatchCreateJobs"]
    assert first == second
    assert isinstance(first, BatchCreateJobsRequest)
    assert [one.job.prompt for one in first.requests] == ["a lighthouse", "a storm"]
    assert first.requests[0].request_id == "mine"
    assert first.requests[1].request_id not in ("", "mine")
    assert without.request_id == ""


async def test_cancel_is_repeated(scripted: ScriptedService, client: JobServiceClient) -> None:
    scripted.script("CancelJob", unavailable())
    scripted.script("CancelJob", CancelJobResponse(job=a_job(JobStatus.JOB_STATUS_CANCELLED)))
    assert (await client.cancel_job(7, "enough")).status == JobStatus.JOB_STATUS_CANCELLED


async def test_delete_is_not_repeated(scripted: ScriptedService, client: JobServiceClient) -> None:
    scripted.script("DeleteJob", unavailable())
    with pytest.raises(JobServiceError) as caught:
        await client.delete_job(7)
    assert caught.value.reason == "SHUTTING_DOWN"


async def test_a_refusal_is_not_repeated(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("CreateJob", invalid(width="63 is below 64"))
    with pytest.raises(JobServiceError) as caught:
        await client.create_job(GenerationJob())
    assert caught.value.status is grpc.StatusCode.INVALID_ARGUMENT


async def test_patience_ends(scripted: ScriptedService) -> None:
    scripted.script("GetJob", unavailable())
    async with JobServiceClient(scripted.address, retry_for=0.0) as impatient:
        with pytest.raises(JobServiceError) as caught:
            await impatient.get_job(7)
    assert caught.value.status is grpc.StatusCode.UNAVAILABLE


async def test_a_wait_longer_than_patience_is_not_begun(scripted: ScriptedService) -> None:
    busy = failure(
        grpc.StatusCode.UNAVAILABLE,
        "the database is away",
        retry_after(timedelta(hours=1)),
        reason="DATABASE_UNAVAILABLE",
    )
    scripted.script("GetJob", busy)
    async with JobServiceClient(scripted.address, retry_for=60.0) as client:
        with pytest.raises(JobServiceError) as caught:
            await client.get_job(7)
    assert caught.value.retry_delay == timedelta(hours=1)


async def test_nobody_listening_is_unavailable() -> None:
    async with ScriptedService() as gone:
        address = gone.address
    async with JobServiceClient(address, retry_for=0.0) as client:
        with pytest.raises(JobServiceError) as caught:
            await client.get_job(7)
    assert caught.value.status is grpc.StatusCode.UNAVAILABLE
    assert caught.value.reason == ""


async def test_list_follows_pages_with_the_same_filter(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    pages: tuple[list[int], ...] = ([1, 2], [], [3])
    for number, ids in enumerate(pages, start=1):
        scripted.script(
            "ListJobs",
            ListJobsResponse(
                jobs=[GenerationJob(id=job_id) for job_id in ids],
                next_page_token=f"page {number}" if number < len(pages) else "",
            ),
        )
    matching = JobFilter(user_id="somebody")

    assert [job.id async for job in client.list_jobs(matching)] == [1, 2, 3]

    requests = [r for r in scripted.requests["ListJobs"] if isinstance(r, ListJobsRequest)]
    assert [request.page_token for request in requests] == ["", "page 1", "page 2"]
    assert all(request.filter == matching for request in requests)


async def test_list_stops_at_its_limit(scripted: ScriptedService, client: JobServiceClient) -> None:
    scripted.script(
        "ListJobs",
        ListJobsResponse(jobs=[GenerationJob(id=1), GenerationJob(id=2)], next_page_token="more"),
    )
    scripted.script(
        "ListJobs",
        ListJobsResponse(jobs=[GenerationJob(id=3), GenerationJob(id=4)], next_page_token="more"),
    )
    assert [job.id async for job in client.list_jobs(limit=3)] == [1, 2, 3]
    sizes = [r.page_size for r in scripted.requests["ListJobs"] if isinstance(r, ListJobsRequest)]
    assert sizes == [3, 1]


async def test_the_client_says_where_it_is_used_wrongly() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await JobServiceClient().get_job(7)
