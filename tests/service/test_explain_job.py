"""ExplainJob: why a job is where it is, in fields and in sentences."""

from datetime import timedelta

import grpc
import pytest
from generation_jobs.v1 import job_error_pb2, job_pb2
from generation_jobs.v1 import operator_service_pb2 as pb
from generation_jobs.v1 import worker_service_pb2 as worker_pb

from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    ProtocolClient,
    in_an_hour,
    refused,
)
from tests.operator_protocol import ProtocolOperator
from tests.service_fixture import Sql
from tests.worker_protocol import CHECKPOINT, ProtocolWorker, seconds

HOUR = timedelta(hours=1)


@pytest.fixture
async def worker(worker: ProtocolWorker) -> ProtocolWorker:
    """A worker that has said what it offers."""
    await worker.lease(wait=0)
    return worker


def change_in(explained: pb.ExplainJobResponse) -> timedelta:
    assert explained.HasField("next_change")
    return explained.next_change.ToTimedelta()


async def test_a_job_that_waits_for_its_turn(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    first, second, urgent = [await client.create(priority=p) for p in (0, 0, 5)]

    explained = await operator.explain(second.id)

    assert explained.pending_reason == job_pb2.PENDING_REASON_QUEUED
    assert explained.jobs_ahead == 2
    assert list(explained.able_workers) == ["box-1"]
    assert list(explained.missing) == []
    assert not explained.HasField("next_change")
    assert not explained.worker
    assert explained.explanation == "It waits for its turn behind 2 jobs; able workers: box-1."
    assert explained.job == await client.get(second.id)
    assert (await operator.explain(first.id)).jobs_ahead == 1
    assert "behind 0 jobs" in (await operator.explain(urgent.id)).explanation


async def test_a_job_that_would_expire(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create(expires_at=in_an_hour())
    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_QUEUED
    assert HOUR - timedelta(minutes=1) < change_in(explained) <= HOUR
    assert explained.explanation.endswith("It fails unless it starts within 60 min.")


async def test_a_scheduled_job(client: ProtocolClient, operator: ProtocolOperator) -> None:
    job = await client.create(scheduled_at=in_an_hour())
    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_SCHEDULED
    assert HOUR - timedelta(minutes=1) < change_in(explained) <= HOUR
    assert explained.jobs_ahead == 0
    assert explained.explanation == "It is scheduled and becomes due in 60 min."


async def test_a_pause_after_a_failed_attempt(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create(expires_at=in_an_hour())
    lease = await worker.lease_one()
    code = job_error_pb2.ERROR_CODE_STORAGE_FAILED
    assert await worker.fail(lease, code, message="The disk is full.", retry_after=7200) == PENDING

    explained = await operator.explain(job.id)

    assert explained.pending_reason == job_pb2.PENDING_REASON_RETRY_DELAY
    # it never started, so it expires before it is due
    assert change_in(explained) <= HOUR
    assert explained.explanation == (
        "It pauses after a failed attempt and becomes due again in 2.0 h. It has had 1 attempt,"
        " 1 of 3 charged. Last error: STORAGE_FAILED: The disk is full."
        " It fails unless it starts within 60 min."
    )


async def test_a_job_that_nobody_offers_what_it_needs_for(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create(
        checkpoint_model="rare.safetensors", lora_models=[job_pb2.Lora(name="glow")]
    )
    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS
    assert list(explained.able_workers) == []
    assert list(explained.missing) == ["checkpoint rare.safetensors", "LoRA glow"]
    assert explained.explanation == (
        "No worker that takes jobs can run it; missing: checkpoint rare.safetensors, LoRA glow."
    )


async def test_a_job_whose_only_worker_is_drained(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    assert list((await operator.explain(job.id)).able_workers) == ["box-1"]
    await operator.drain("box-1")
    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS
    assert list(explained.missing) == ["any worker"]
    await operator.resume("box-1")
    assert list((await operator.explain(job.id)).able_workers) == ["box-1"]


async def test_a_job_whose_user_runs_as_many_as_allowed(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker, sql: Sql
) -> None:
    running = await client.create()
    await sql.execute(
        "INSERT INTO user_shares (user_id, max_running) VALUES (%s, 1)", (running.user_id,)
    )
    await worker.lease_one()
    job = await client.create()
    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_USER_LIMIT
    assert explained.explanation == "Its user already runs as many jobs as allowed."


async def test_a_paused_job(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    await operator.pause(checkpoint_model=CHECKPOINT)
    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_PAUSED
    assert "paused dispatch" in explained.explanation
    # also when nobody could run it anyway
    await operator.drain("box-1")
    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_PAUSED
    assert list(explained.missing) == ["any worker"]


async def test_a_job_that_waits_to_be_adopted_and_then_for_anybody(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.progress(lease, running_for=seconds(1))
    assert await worker.release(lease, worker_pb.RELEASE_REASON_DRAINING) == PENDING

    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_ADOPTION
    assert timedelta() < change_in(explained) <= timedelta(seconds=30)
    assert "may still render it" in explained.explanation

    await sql.execute("UPDATE generation_jobs SET adopt_until = now() - interval '1 second'")
    explained = await operator.explain(job.id)
    assert explained.pending_reason == job_pb2.PENDING_REASON_QUEUED
    assert not explained.HasField("next_change")


async def test_a_running_job(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create()
    lease = await worker.lease_one()

    explained = await operator.explain(job.id)
    assert (explained.job.status, explained.pending_reason) == (RUNNING, 0)
    assert (explained.worker, explained.comfyui_backend) == ("box-1", "box-1/gpu0")
    assert not explained.comfyui_prompt_id
    assert explained.last_beat_at == (await operator.worker("box-1")).last_beat_at
    assert timedelta(seconds=20) < change_in(explained) <= timedelta(seconds=30)
    assert list(explained.able_workers) == list(explained.missing) == []
    assert "has not reported a prompt yet. It keeps the job for" in explained.explanation

    await worker.progress(lease, prompt_id=lease.prompt_id)
    explained = await operator.explain(job.id)
    assert explained.comfyui_prompt_id == lease.prompt_id
    assert f"queued it on box-1/gpu0 as prompt {lease.prompt_id}" in explained.explanation

    await worker.progress(lease, prompt_id=lease.prompt_id, running_for=seconds(1))
    await sql.execute("UPDATE workers SET last_beat_at = now() - interval '1 hour'")
    explained = await operator.explain(job.id)
    assert explained.last_beat_at == (await operator.worker("box-1")).last_beat_at
    assert "last heard of 60 min ago, executes it on box-1/gpu0" in explained.explanation

    await client.cancel(job.id)
    explained = await operator.explain(job.id)
    assert explained.explanation.endswith("A cancel was asked for; the worker has been told.")


async def test_a_running_job_that_is_nearly_out_of_time(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create(attempt_timeout=seconds(20))
    lease = await worker.lease_one()
    await worker.progress(lease, running_for=seconds(0.1))
    explained = await operator.explain(job.id)
    assert change_in(explained) <= timedelta(seconds=20)
    assert "The attempt times out in" in explained.explanation


async def test_jobs_that_have_ended(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    done, failed, cancelled = [await client.create() for _ in range(3)]
    first, second = [await worker.lease_one() for _ in range(2)]
    assert await worker.complete(first) == COMPLETED
    error = job_error_pb2.ERROR_CODE_INVALID_WORKFLOW
    assert await worker.fail(second, error, message="No such node.") == FAILED
    assert (await client.cancel(cancelled.id, "not that one")).status == CANCELLED

    told = {job.id: await operator.explain(job.id) for job in (done, failed, cancelled)}

    assert told[done.id].explanation == "Completed on box-1/gpu0."
    assert told[failed.id].explanation == (
        "Failed; RetryJob runs it again. It has had 1 attempt, 1 of 3 charged."
        " Last error: INVALID_WORKFLOW: No such node."
    )
    assert told[cancelled.id].explanation == "Cancelled: not that one."
    for explained in told.values():
        assert explained.pending_reason == job_pb2.PENDING_REASON_UNSPECIFIED
        assert not explained.HasField("next_change")
        assert not explained.worker


async def test_a_job_that_is_not_there(operator: ProtocolOperator) -> None:
    error = await refused(operator.explain(4711))
    assert (error.status, error.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
    error = await refused(operator.explain(0))
    assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("job_id",))
