"""RetryJob: a job that has ended badly runs again as if it were new."""

from collections.abc import Awaitable, Callable

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_error_pb2, job_pb2
from google.protobuf import timestamp_pb2

from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    ProtocolClient,
    in_an_hour,
    refused,
)
from tests.worker_protocol import ProtocolWorker, seconds

Retry = Callable[[int], Awaitable[job_pb2.GenerationJob]]


@pytest.fixture
def retry(client: ProtocolClient) -> Retry:
    async def call(job_id: int) -> job_pb2.GenerationJob:
        return (await client.stub.RetryJob(pb.RetryJobRequest(id=job_id), timeout=20)).job

    return call


async def test_a_failed_job_gets_a_fresh_budget_and_its_attempts_go_on(
    client: ProtocolClient, worker: ProtocolWorker, retry: Retry
) -> None:
    job = await client.create(max_attempts=1)
    lease = await worker.lease_one()
    await worker.progress(lease, 0.7, running_for=seconds(1))
    assert await worker.fail(lease, job_error_pb2.ERROR_CODE_INTERNAL) == FAILED

    again = await retry(job.id)

    assert (again.status, again.attempt, again.attempts_charged) == (PENDING, 1, 0)
    assert again.pending_reason == job_pb2.PENDING_REASON_QUEUED
    for cleared in ("error", "progress", "started_at", "completed_at"):
        assert not again.HasField(cleared), cleared
    second = await worker.lease_one()
    assert (second.job_id, second.attempt) == (job.id, 2)
    assert second.prompt_id != lease.prompt_id
    # one attempt is allowed, and this is it
    assert await worker.fail(second, job_error_pb2.ERROR_CODE_INTERNAL) == FAILED
    ended = await client.get(job.id)
    assert (ended.attempt, ended.attempts_charged, len(ended.attempts)) == (2, 1, 2)


async def test_a_waiting_worker_gets_a_cancelled_job_that_is_retried(
    client: ProtocolClient, worker: ProtocolWorker, retry: Retry
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await client.cancel(job.id, "enough")
    assert await worker.release(lease) == CANCELLED

    again = await retry(job.id)

    assert (again.status, again.cancel_reason) == (PENDING, "")
    assert not again.HasField("cancel_requested_at")
    assert not again.HasField("completed_at")
    assert await worker.complete(await worker.lease_one()) == COMPLETED


async def test_a_time_to_expire_that_has_passed_is_forgotten(
    client: ProtocolClient, worker: ProtocolWorker, retry: Retry
) -> None:
    job = await client.create(expires_at=timestamp_pb2.Timestamp(seconds=1))
    expired = await client.seen(job.id, FAILED)
    assert expired.error.code == job_error_pb2.ERROR_CODE_EXPIRED

    again = await retry(job.id)

    assert not again.HasField("expires_at")
    assert (await worker.lease_one()).job_id == job.id


async def test_times_that_are_still_to_come_count(
    client: ProtocolClient, worker: ProtocolWorker, retry: Retry
) -> None:
    later = in_an_hour()
    expiring = await client.create(expires_at=later)
    await client.cancel(expiring.id)
    assert (await retry(expiring.id)).expires_at == later
    await client.cancel(expiring.id)

    scheduled = await client.create(scheduled_at=later)
    await client.cancel(scheduled.id)
    again = await retry(scheduled.id)
    assert again.scheduled_at == later
    assert again.pending_reason == job_pb2.PENDING_REASON_SCHEDULED
    assert await worker.lease(wait=0) == []


async def test_it_goes_to_the_end_of_its_users_line(
    client: ProtocolClient, worker: ProtocolWorker, retry: Retry
) -> None:
    first, second = await client.create(), await client.create()
    await client.cancel(first.id)
    await retry(first.id)
    assert [(await worker.lease_one()).job_id for _ in range(2)] == [second.id, first.id]


async def test_only_what_has_failed_or_was_cancelled_can_be_retried(
    client: ProtocolClient, worker: ProtocolWorker, retry: Retry
) -> None:
    job = await client.create()

    async def is_refused_as(status: str) -> None:
        error = await refused(retry(job.id))
        assert (error.status, error.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "WRONG_STATE",
        )
        assert error.metadata["status"] == status

    await is_refused_as("pending")
    lease = await worker.lease_one()
    await is_refused_as("running")
    await worker.complete(lease)
    await is_refused_as("completed")


async def test_a_job_that_is_not_there(retry: Retry) -> None:
    error = await refused(retry(4711))
    assert (error.status, error.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
    error = await refused(retry(0))
    assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("id",))
