"""RequeueJob, FailJobNow and ListAttempts: what operators do to single jobs."""

import asyncio
import time

import grpc
import pytest
from generation_jobs.v1 import attempt_pb2, job_error_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    ProtocolClient,
    refused,
)
from tests.operator_protocol import ProtocolOperator
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, verdicts

WRONG_STATE = (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")


async def test_every_attempt_is_listed_with_how_it_ended(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    assert await operator.attempts(job.id) == []
    failed = await worker.lease_one()
    await worker.fail(failed, job_error_pb2.ERROR_CODE_STORAGE_FAILED, retry_after=0)
    await worker.release(await worker.lease_one())
    running = await worker.lease_one()
    await worker.progress(running, prompt_id=running.prompt_id)

    first, second, third = await operator.attempts(job.id)

    assert [one.attempt for one in (first, second, third)] == [1, 2, 3]
    assert first.outcome == attempt_pb2.ATTEMPT_OUTCOME_FAILED
    assert first.charged
    assert first.error.code == job_error_pb2.ERROR_CODE_STORAGE_FAILED
    assert second.outcome == attempt_pb2.ATTEMPT_OUTCOME_RELEASED
    assert not second.charged
    assert second.ended_at.ToDatetime() >= second.leased_at.ToDatetime()
    assert third.outcome == attempt_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
    assert not third.HasField("ended_at")
    assert (third.worker, third.comfyui_backend) == ("box-1", "box-1/gpu0")
    assert third.comfyui_prompt_id == running.prompt_id


async def test_a_running_job_is_taken_from_its_worker_and_run_by_another(
    client: ProtocolClient,
    operator: ProtocolOperator,
    worker: ProtocolWorker,
    channel: grpc.aio.Channel,
) -> None:
    job = await client.create()
    old = await worker.lease_one()
    other = ProtocolWorker(channel, "box-2")
    await other.report_catalogue()
    held = asyncio.create_task(worker.beat(old, wait=10))
    waiting = asyncio.create_task(other.lease_one(wait=30))
    await worker.beat(old)
    await other.beat()
    began = time.monotonic()

    requeued = await operator.requeue(job.id)

    assert requeued.id == job.id
    assert requeued.attempts_charged == 0
    assert verdicts(await held) == {old.lease_token: pb.VERDICT_LOST}
    new = await waiting
    assert time.monotonic() - began < 2
    assert (new.job_id, new.attempt) == (job.id, 2)
    assert (await refused(worker.complete(old))).reason == "LEASE_LOST"
    assert await other.complete(new) == COMPLETED
    first, second = await operator.attempts(job.id)
    assert first.outcome == attempt_pb2.ATTEMPT_OUTCOME_RELEASED
    assert not first.charged
    assert second.outcome == attempt_pb2.ATTEMPT_OUTCOME_COMPLETED


async def test_a_requeued_job_is_pending_and_keeps_its_place(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    first, second = await client.create(), await client.create()
    await worker.lease_one()
    requeued = await operator.requeue(first.id)
    assert requeued.status == PENDING
    assert (await worker.lease_one()).job_id == first.id
    assert (await worker.lease_one()).job_id == second.id


async def test_a_job_that_has_failed_or_was_cancelled_is_run_again(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    failed = await client.create(max_attempts=1)
    await worker.fail(await worker.lease_one(), job_error_pb2.ERROR_CODE_INTERNAL)
    cancelled = await client.create()
    await client.cancel(cancelled.id)
    for job, attempt in ((failed, 2), (cancelled, 1)):
        requeued = await operator.requeue(job.id)
        assert (requeued.status, requeued.attempts_charged) == (PENDING, 0)
        assert not requeued.HasField("error")
        lease = await worker.lease_one()
        assert (lease.job_id, lease.attempt) == (job.id, attempt)


async def test_a_cancel_that_was_asked_for_before_decides(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    """Every end but completion makes a job CANCELLED once that was asked for."""
    for end in (operator.requeue, operator.fail_now):
        job = await client.create()
        lease = await worker.lease_one()
        await client.cancel(job.id, "enough")
        ended = await end(job.id)
        assert (ended.status, ended.cancel_reason) == (CANCELLED, "enough")
        assert (await refused(worker.complete(lease))).reason == "LEASE_LOST"
        (attempt,) = await operator.attempts(job.id)
        assert attempt.outcome == attempt_pb2.ATTEMPT_OUTCOME_CANCELLED


async def test_a_job_that_waits_or_is_done_cannot_be_requeued(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    error = await refused(operator.requeue(job.id))
    assert (error.status, error.reason) == WRONG_STATE
    assert error.metadata["status"] == "pending"
    await worker.complete(await worker.lease_one())
    error = await refused(operator.requeue(job.id))
    assert (error.status, error.reason) == WRONG_STATE
    assert error.metadata["status"] == "completed"
    assert len(await operator.attempts(job.id)) == 1


async def test_a_pending_job_is_failed_and_never_leased(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    async with client.watching(job.id) as watch:
        failed = await operator.fail_now(job.id, "it stopped everybody else")
        assert await watch.until(FAILED) == failed

    assert failed.error.code == job_error_pb2.ERROR_CODE_FAILED_BY_OPERATOR
    assert failed.error.message == "it stopped everybody else"
    assert not failed.error.retryable
    assert failed.HasField("completed_at")
    assert await worker.lease(wait=0) == []


async def test_a_running_job_is_failed_whatever_its_worker_does(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.progress(lease)
    held = asyncio.create_task(worker.beat(lease, wait=10))
    await worker.beat(lease)
    began = time.monotonic()

    failed = await operator.fail_now(job.id)

    assert verdicts(await held) == {lease.lease_token: pb.VERDICT_LOST}
    assert time.monotonic() - began < 2
    assert failed.status == FAILED
    assert not failed.HasField("progress")
    assert await worker.progress(lease) == pb.VERDICT_LOST
    assert (await refused(worker.complete(lease))).reason == "LEASE_LOST"
    (attempt,) = (await client.get(job.id)).attempts
    assert attempt.outcome == attempt_pb2.ATTEMPT_OUTCOME_FAILED
    assert attempt.error.code == job_error_pb2.ERROR_CODE_FAILED_BY_OPERATOR
    assert not attempt.charged
    assert (await operator.worker("box-1")).job_ids == []


async def test_a_failed_job_makes_room_for_the_next_of_its_user(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create()
    await sql.execute(
        "INSERT INTO user_shares (user_id, max_running) VALUES (%s, 1)", (job.user_id,)
    )
    await worker.lease_one()
    parked = await client.create()
    assert await worker.lease(wait=0) == []
    await operator.fail_now(job.id)
    assert (await worker.lease_one()).job_id == parked.id


async def test_a_job_that_was_to_be_deleted_goes_away_when_it_is_failed(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    await worker.lease_one()
    assert not await client.delete(job.id, cancel=True)
    await operator.fail_now(job.id)
    async with asyncio.timeout(20):
        while (await client.list_jobs(page_size=1)).jobs:
            pass


async def test_a_job_that_has_ended_cannot_be_failed(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    await worker.complete(await worker.lease_one())
    error = await refused(operator.fail_now(job.id))
    assert (error.status, error.reason) == WRONG_STATE
    assert error.metadata["status"] == "completed"
    assert (await client.get(job.id)).status == COMPLETED


@pytest.mark.parametrize("reason", ["", "x" * 501, "nul\0"])
async def test_a_reason_is_needed_and_checked(
    reason: str, client: ProtocolClient, operator: ProtocolOperator
) -> None:
    job = await client.create()
    error = await refused(operator.fail_now(job.id, reason))
    assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("reason",))
    assert (await client.get(job.id)).status == PENDING


async def test_a_job_that_is_not_there(operator: ProtocolOperator) -> None:
    for call in (operator.requeue, operator.fail_now, operator.attempts):
        error = await refused(call(4711))
        assert (error.status, error.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
        error = await refused(call(-1))
        assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("job_id",))


async def test_requeue_and_the_workers_own_outcome_at_once_leave_one_of_them(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    for _ in range(10):
        job = await client.create()
        lease = await worker.lease_one()
        completed, requeued = await asyncio.gather(
            worker.complete(lease), operator.requeue(job.id), return_exceptions=True
        )
        after = await client.get(job.id)
        if completed == COMPLETED:
            assert isinstance(requeued, grpc.aio.AioRpcError)
            assert requeued.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert after.status == COMPLETED
        else:
            assert isinstance(completed, grpc.aio.AioRpcError)
            assert completed.code() is grpc.StatusCode.ABORTED
            assert after.status in (PENDING, RUNNING)
            assert await worker.complete(await worker.lease_one()) == COMPLETED
