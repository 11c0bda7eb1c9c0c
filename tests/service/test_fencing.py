"""Only the holder of the current lease records anything, and one outcome is recorded."""

import asyncio
from itertools import permutations

import grpc
import pytest
from generation_jobs.v1 import attempt_pb2, job_error_pb2
from generation_jobs.v1 import worker_service_pb2 as pb
from google.protobuf import duration_pb2

from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    ProtocolClient,
    Refused,
    refused,
)
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, artifact_file, ref, seconds, verdicts

INVALID_WORKFLOW = job_error_pb2.ERROR_CODE_INVALID_WORKFLOW


def _assert_lost(error: Refused, lease: pb.Lease) -> None:
    assert error.status is grpc.StatusCode.ABORTED
    assert error.reason == "LEASE_LOST"
    assert error.metadata == {"job_id": str(lease.job_id), "lease_token": lease.lease_token}


async def test_a_stale_token_changes_nothing_whatever_it_says(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    stale = await worker.lease_one()
    early = await worker.upload(stale, b"early")
    await worker.release(stale)
    current = await worker.lease_one()
    before = await client.get(job.id)

    assert await worker.progress(stale, 0.9, prompt_id="x") == pb.VERDICT_LOST
    assert verdicts(await worker.beat(stale, current))[stale.lease_token] == pb.VERDICT_LOST
    for call in (
        worker.upload(stale, b"picture"),
        worker.upload_together(artifact_file(stale, b"picture")),
        worker.complete(stale),
        worker.complete(stale, early),
        worker.fail(stale, INVALID_WORKFLOW),
    ):
        _assert_lost(await refused(call), stale)

    assert before.status == RUNNING
    assert await client.get(job.id) == before
    assert await worker.complete(current) == COMPLETED


async def test_a_token_is_worth_nothing_for_another_job(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(2):
        await client.create()
    one, other = await worker.lease(max_jobs=2)
    crossed = pb.Lease(job_id=other.job_id, lease_token=one.lease_token)

    for call in (worker.complete(crossed), worker.fail(crossed), worker.release(crossed),
                 worker.upload(crossed, b"x"),
                 worker.upload_together(artifact_file(crossed, b"x"))):  # fmt: skip
        _assert_lost(await refused(call), crossed)
    assert await worker.progress(crossed) == pb.VERDICT_LOST
    assert verdicts(await worker.beat(one, other, crossed))[one.lease_token]
    assert {(await client.get(one.job_id)).status, (await client.get(other.job_id)).status} == {
        RUNNING
    }


async def test_repeating_an_outcome_is_ok(client: ProtocolClient, worker: ProtocolWorker) -> None:
    for _ in range(3):
        await client.create()
    done, failed, released = await worker.lease(max_jobs=3)

    for _ in range(3):
        assert await worker.complete(done) == COMPLETED
        assert await worker.fail(failed, INVALID_WORKFLOW) == FAILED
        assert await worker.release(released) == PENDING
    job = await client.get(released.job_id)
    assert (job.attempts_charged, job.attempt) == (0, 1)


@pytest.mark.parametrize("outcome", ["complete", "fail", "release"])
async def test_repeating_an_outcome_is_ok_while_it_is_being_recorded(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, outcome: str
) -> None:
    for _ in range(2):
        await client.create()
    first, lease = await worker.lease(max_jobs=2)
    report = getattr(worker, outcome)
    async with sql.transaction():
        # what is reported meanwhile gathers behind the report on the first job
        await sql.execute("SELECT FROM generation_jobs WHERE id = %s FOR UPDATE", [first.job_id])
        blocked = asyncio.create_task(report(first))
        await _blocked_statement(sql)
        repeated = [asyncio.create_task(report(lease)) for _ in range(5)]
        await worker.beat()  # answered after those calls have been taken in
    assert len(set(await asyncio.gather(blocked, *repeated))) == 1


async def _blocked_statement(sql: Sql) -> None:
    """Return once a statement waits for a lock."""
    async with asyncio.timeout(20):
        while not await (
            await sql.execute("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1")
        ).fetchone():
            pass


@pytest.mark.parametrize(
    ("first", "second"), list(permutations(("complete", "fail", "release"), 2))
)
async def test_the_first_recorded_outcome_wins(
    client: ProtocolClient, worker: ProtocolWorker, first: str, second: str
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    status = await getattr(worker, first)(lease)
    recorded = await client.get(job.id)

    _assert_lost(await refused(getattr(worker, second)(lease)), lease)
    assert await client.get(job.id) == recorded
    assert recorded.status == status


async def test_of_concurrent_different_outcomes_one_is_recorded(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    answers = await asyncio.gather(
        worker.complete(lease),
        worker.fail(lease, INVALID_WORKFLOW),
        worker.release(lease),
        return_exceptions=True,
    )
    statuses = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(statuses) == 1
    assert (await client.get(job.id)).status == statuses[0]


async def test_concurrent_progress_of_one_lease_is_never_told_that_it_is_lost(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    answers = await asyncio.gather(*(worker.progress(lease, n / 20) for n in range(20)))
    assert set(answers) == {pb.VERDICT_CONTINUE}


async def test_progress_of_one_lease_twice_in_a_call_is_answered_twice(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    reports = [pb.ProgressReport(lease=ref(lease), fraction=n / 4) for n in range(4)]
    answer = await worker.stub.ReportProgress(
        pb.ReportProgressRequest(worker=worker.identity, reports=reports), timeout=20
    )
    assert [verdict.verdict for verdict in answer.verdicts] == [pb.VERDICT_CONTINUE] * 4


async def test_completion_names_only_files_of_its_attempt(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(2):
        await client.create()
    one, other = await worker.lease(max_jobs=2)
    foreign = await worker.upload(other, b"foreign")

    error = await refused(worker.complete(one, foreign))
    assert error.fields == ("artifact_ids",)
    assert (await client.get(one.job_id)).status == RUNNING
    assert await worker.complete(one) == COMPLETED
    assert await worker.complete(one) == COMPLETED


async def test_the_outcome_is_in_the_attempt(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    released = await worker.lease_one()
    await worker.release(released)
    failed = await worker.lease_one()
    await worker.progress(failed, prompt_id=failed.prompt_id, running_for=seconds(2))
    await worker.fail(
        failed,
        job_error_pb2.ERROR_CODE_OUTPUT_MISSING,
        retry_after=0,
        message="no file",
        node_id="9",
        technical_details="node 9 put out nothing",
    )
    done = await worker.lease_one()
    await worker.complete(done, prompt_id="adopted", running_for=seconds(3))

    ended = await client.get(job.id)
    first, second, third = ended.attempts
    assert [attempt.attempt for attempt in ended.attempts] == [1, 2, 3]
    assert [attempt.outcome for attempt in ended.attempts] == [
        attempt_pb2.ATTEMPT_OUTCOME_RELEASED,
        attempt_pb2.ATTEMPT_OUTCOME_FAILED,
        attempt_pb2.ATTEMPT_OUTCOME_COMPLETED,
    ]
    assert [attempt.charged for attempt in ended.attempts] == [False, True, False]
    assert {attempt.worker for attempt in ended.attempts} == {"box-1"}
    assert not first.HasField("started_at")
    assert second.HasField("started_at")
    assert second.comfyui_prompt_id == failed.prompt_id
    assert second.error.code == job_error_pb2.ERROR_CODE_OUTPUT_MISSING
    assert second.error.message == "no file"
    assert third.comfyui_prompt_id == ended.comfyui_prompt_id == "adopted"
    assert third.started_at == ended.started_at
    assert ended.started_at.ToNanoseconds() < ended.completed_at.ToNanoseconds()
    assert all(attempt.HasField("ended_at") for attempt in ended.attempts)
    assert not ended.HasField("error")
    assert not ended.HasField("progress")


async def test_after_a_cancel_a_completion_still_counts(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await client.cancel(job.id)
    artifact = await worker.upload(lease, b"done already")
    assert await worker.complete(lease, artifact) == COMPLETED
    assert (await client.get(job.id)).status == COMPLETED


@pytest.mark.parametrize("end", ["fail", "release"])
async def test_after_a_cancel_every_other_end_is_cancelled(
    client: ProtocolClient, worker: ProtocolWorker, end: str
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await client.cancel(job.id, "changed my mind")
    assert await getattr(worker, end)(lease) == CANCELLED

    ended = await client.get(job.id)
    assert ended.status == CANCELLED
    assert ended.cancel_reason == "changed my mind"
    assert ended.HasField("completed_at")
    assert ended.attempts[0].outcome == attempt_pb2.ATTEMPT_OUTCOME_CANCELLED
    # the outcome repeated
    assert await getattr(worker, end)(lease) == CANCELLED


async def test_bad_reports_name_their_wrong_fields(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    bad_duration = duration_pb2.Duration(seconds=10**15)
    cases = {
        ("reports[0].fraction",): worker.progress(lease, float("nan")),
        ("reports[0].node_id",): worker.progress(lease, node_id="\0"),
        ("reports[0].remaining",): worker.progress(lease, remaining=bad_duration),
        ("reports[0].running_for",): worker.progress(lease, running_for=bad_duration),
        ("prompt_id",): worker.complete(lease, prompt_id="\0"),
        ("running_for",): worker.complete(lease, running_for=seconds(-1)),
        ("error.message",): worker.fail(lease, message="\0"),
        ("error.technical_details",): worker.fail(lease, technical_details="x" * 4_097),
        ("retry_after",): worker.fail(lease, retry_after=90_000),
        ("reason",): worker.release(lease, pb.RELEASE_REASON_UNSPECIFIED),
        ("lease.job_id", "lease.lease_token"): worker.complete(pb.Lease(lease_token="x")),
    }
    for fields, call in cases.items():
        assert (await refused(call)).fields == fields
    assert (await client.get(job.id)).status == RUNNING


async def test_output_only_fields_of_an_error_are_ignored(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    status = await worker.fail(
        lease,
        INVALID_WORKFLOW,
        retry_delay=duration_pb2.Duration(seconds=10**15),
        category=77,
        retryable=True,
        attempts_exhausted=True,
        recovery_suggestions=["\0"],
    )
    assert status == FAILED
    error = (await client.get(job.id)).error
    assert error.category == job_error_pb2.ERROR_CATEGORY_VALIDATION
    assert not error.retryable
    assert not error.attempts_exhausted
    assert not error.HasField("retry_delay")


@pytest.mark.parametrize("span", [duration_pb2.Duration(nanos=1_000), duration_pb2.Duration()])
async def test_the_shortest_durations_are_taken(
    client: ProtocolClient, worker: ProtocolWorker, span: duration_pb2.Duration
) -> None:
    await client.create()
    lease = await worker.lease_one()
    assert await worker.progress(lease, running_for=span) == pb.VERDICT_CONTINUE
    request = pb.FailJobRequest(
        worker=worker.identity,
        lease=ref(lease),
        error=job_error_pb2.JobError(code=job_error_pb2.ERROR_CODE_INTERNAL),
        retry_after=span,
    )
    assert (await worker.stub.FailJob(request, timeout=20)).status == PENDING
    assert (await worker.lease_one()).job_id == lease.job_id
