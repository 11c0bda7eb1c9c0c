"""What becomes of a job after a failed attempt follows from the error's code."""

from typing import Any

import pytest
from generation_jobs.v1 import job_error_pb2 as errors
from generation_jobs.v1 import job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import FAILED, PENDING, ProtocolClient
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker

FINAL_CODES = (
    errors.ERROR_CODE_INVALID_WORKFLOW,
    errors.ERROR_CODE_MODEL_NOT_FOUND,
    errors.ERROR_CODE_NODE_NOT_FOUND,
    errors.ERROR_CODE_WORKFLOW_FORBIDDEN,
)
FORGIVABLE_CODES = (
    errors.ERROR_CODE_COMFYUI_UNREACHABLE,
    errors.ERROR_CODE_COMFYUI_RESTARTED,
    errors.ERROR_CODE_PROMPT_LOST,
)


@pytest.mark.parametrize("code", FINAL_CODES)
async def test_what_cannot_work_fails_at_once(
    client: ProtocolClient, worker: ProtocolWorker, code: "errors.ErrorCode.ValueType"
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    assert await worker.fail(lease, code, message="no such node", retry_after=0) == FAILED

    ended = await client.get(job.id)
    assert ended.status == FAILED
    assert ended.error.code == code
    assert ended.error.message == "no such node"
    assert not ended.error.retryable
    assert not ended.error.attempts_exhausted
    assert ended.error.recovery_suggestions
    assert ended.error.severity
    assert ended.error.category
    assert ended.HasField("completed_at")
    assert ended.worker == "box-1"


@pytest.mark.parametrize("code", FORGIVABLE_CODES)
async def test_a_comfyui_that_vanished_is_forgiven_twice(
    client: ProtocolClient, worker: ProtocolWorker, code: "errors.ErrorCode.ValueType"
) -> None:
    job = await client.create(max_attempts=2)
    charged = []
    for _ in range(4):
        lease = await worker.lease_one()
        await worker.fail(lease, code, retry_after=0)
        charged.append((await client.get(job.id)).attempts_charged)

    assert charged == [0, 0, 1, 2]
    ended = await client.get(job.id)
    assert ended.status == FAILED
    assert ended.error.attempts_exhausted
    assert [attempt.charged for attempt in ended.attempts] == [False, False, True, True]


async def test_other_failures_are_charged_until_the_budget_is_used_up(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    statuses = [
        await worker.fail(await worker.lease_one(), errors.ERROR_CODE_OUTPUT_MISSING, retry_after=0)
        for _ in range(3)
    ]
    assert statuses == [PENDING, PENDING, FAILED]
    ended = await client.get(job.id)
    assert (ended.attempt, ended.attempts_charged) == (3, 3)
    assert ended.error.attempts_exhausted


@pytest.mark.parametrize("reason", [pb.RELEASE_REASON_DRAINING, pb.RELEASE_REASON_BACKEND_GONE])
async def test_a_release_is_not_charged(
    client: ProtocolClient, worker: ProtocolWorker, reason: "pb.ReleaseReason.ValueType"
) -> None:
    job = await client.create(max_attempts=1)
    for number in range(1, 4):
        lease = await worker.lease_one()
        assert lease.attempt == number
        assert await worker.release(lease, reason) == PENDING
    waiting = await client.get(job.id)
    assert (waiting.attempt, waiting.attempts_charged) == (3, 0)
    assert not waiting.HasField("error")


async def test_a_job_that_goes_back_keeps_its_place(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    first, second = await client.create(), await client.create()
    await worker.release(await worker.lease_one())
    assert [(await worker.lease_one()).job_id for _ in range(2)] == [first.id, second.id]


async def test_the_pause_the_worker_asked_for_is_kept(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.fail(lease, errors.ERROR_CODE_DEVICE_FAULT, retry_after=1)
    waiting = await client.get(job.id)
    assert waiting.pending_reason == job_pb2.PENDING_REASON_RETRY_DELAY
    assert waiting.error.code == errors.ERROR_CODE_DEVICE_FAULT
    assert await worker.lease(wait=0) == []

    again = await worker.lease_one(wait=20)
    ended_at = (await client.get(job.id)).attempts[0].ended_at.ToNanoseconds()
    assert again.job.leased_at.ToNanoseconds() - ended_at >= 1_000_000_000


async def test_without_one_the_pause_grows_with_each_failure(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create(max_attempts=20)
    for failures in range(1, 10):
        await worker.fail(await worker.lease_one(), errors.ERROR_CODE_INTERNAL)
        cursor = await sql.execute(
            "SELECT extract(epoch FROM not_before - updated_at) FROM generation_jobs"
        )
        (pause,) = await cursor.fetchone() or (None,)
        assert pause is not None
        assert 1 <= pause <= min(600, 5 * 2 ** (failures - 1))
        # as if the pause were over
        await sql.execute(
            "UPDATE generation_jobs SET not_before = NULL, dispatchable = true WHERE id = %s",
            [job.id],
        )


async def test_an_error_of_a_newer_worker_is_taken_as_internal(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    newer: Any = 9_999
    for code in (errors.ERROR_CODE_UNSPECIFIED, newer):
        job = await client.create()
        assert await worker.fail(await worker.lease_one(), code) == PENDING
        assert (await client.get(job.id)).error.code == errors.ERROR_CODE_INTERNAL


async def test_inputs_that_comfyui_refused_are_kept(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    refused = errors.NodeInputError(
        node_id="4",
        node_type="CheckpointLoaderSimple",
        input_name="ckpt_name",
        error_type="value_not_in_list",
        message="not in list",
    )
    lease = await worker.lease_one()
    await worker.fail(lease, errors.ERROR_CODE_INVALID_WORKFLOW, node_input_errors=[refused])
    assert list((await client.get(job.id)).error.node_input_errors) == [refused]
