"""A watch of many jobs goes on where it broke off."""

import json
from pathlib import Path
from typing import cast

import grpc
import pytest
from generation_jobs.v1.generation_job_service_pb2 import (
    KeepAlive,
    WatchJobsRequest,
    WatchJobsResponse,
)
from generation_jobs.v1.job_pb2 import GenerationJob, JobFilter, JobStatus

from job_service.client import JobServiceClient, JobServiceError
from tests.unit.client.command import genjobs
from tests.unit.client.messages import a_job, completed, failure, running, unavailable
from tests.unit.client.scripted_service import ScriptedService

EXPIRED = failure(grpc.StatusCode.FAILED_PRECONDITION, "open anew", reason="RESUME_TOKEN_EXPIRED")


def job(job_id: int, token: str = "") -> WatchJobsResponse:
    return WatchJobsResponse(job=GenerationJob(id=job_id), resume_token=token)


def removed(job_id: int, token: str = "") -> WatchJobsResponse:
    return WatchJobsResponse(removed_job_id=job_id, resume_token=token)


def alive(token: str = "") -> WatchJobsResponse:
    return WatchJobsResponse(keep_alive=KeepAlive(), resume_token=token)


async def _seen(client: JobServiceClient, **options: object) -> list[WatchJobsResponse]:
    """What a watch yields until it fails for good."""
    seen: list[WatchJobsResponse] = []

    async def read() -> None:
        async for message in client.watch_jobs(JobFilter(search="fox"), **options):  # type: ignore[arg-type]
            seen.append(message)  # noqa: PERF401  # also what came before the error counts

    with pytest.raises(JobServiceError) as caught:
        await read()
    assert caught.value.reason == "RESUME_TOKEN_EXPIRED"
    return seen


def _requests(scripted: ScriptedService) -> list[WatchJobsRequest]:
    return cast("list[WatchJobsRequest]", scripted.requests["WatchJobs"])


async def test_it_resumes_with_the_last_token(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("WatchJobs", job(1), alive("a"), job(2), unavailable())
    scripted.script("WatchJobs", unavailable())
    scripted.script("WatchJobs", removed(1, "b"))
    scripted.script("WatchJobs", alive(), EXPIRED)
    heard: list[JobServiceError] = []

    seen = await _seen(client, on_interruption=heard.append)

    assert seen == [job(1), alive("a"), job(2), removed(1, "b"), alive()]
    assert [request.resume_token for request in _requests(scripted)] == ["", "a", "a", "b"]
    assert {request.filter.search for request in _requests(scripted)} == {"fox"}
    assert len(heard) == 3


async def test_what_only_a_broken_opening_told_is_gone(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("WatchJobs", job(1), job(2), unavailable())
    scripted.script("WatchJobs", job(2), job(3), unavailable())
    scripted.script("WatchJobs", job(2), job(4), alive("a"), unavailable())
    scripted.script("WatchJobs", EXPIRED)
    seen = await _seen(client)
    assert seen[6:] == [alive("a"), removed(1), removed(3)]


async def test_it_begins_with_a_token_that_was_kept(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("WatchJobs", job(1), unavailable())
    scripted.script("WatchJobs", job(2), EXPIRED)
    assert await _seen(client, resume_token="kept", changes_only=True) == [job(1), job(2)]
    assert [request.resume_token for request in _requests(scripted)] == ["kept", "kept"]


async def test_the_command_shows_each_job_on_lines_of_its_own(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    waiting = a_job(JobStatus.JOB_STATUS_PENDING)
    half = running(14).job
    other = GenerationJob(id=8, status=JobStatus.JOB_STATUS_FAILED)
    messages = [
        *(WatchJobsResponse(job=one) for one in (waiting, half, half, other, completed().job)),
        removed(8),
    ]
    for _ in range(2):
        scripted.script("WatchJobs", alive("a"), *messages, EXPIRED)

    shown = await genjobs(scripted.address, "watch", cwd=tmp_path)
    lines = shown.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "Job 7: waiting",
        "Job 7: sampling",
        "Job 8: failed",
        "Job 7: completed",
        "Job 8: deleted",
    ]
    assert shown.code != 0
    assert "open anew" in shown.stderr

    raw = await genjobs(scripted.address, "watch", "--json", cwd=tmp_path)
    parsed = [json.loads(line) for line in raw.stdout.splitlines()]
    assert [next(iter(one)) for one in parsed] == ["job"] * 5 + ["removed_job_id"]
    assert all(request.changes_only for request in _requests(scripted))
