"""Two workers with an old and a new lease of one job, in every order of every pair of calls."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import product
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import (
    attempt_pb2,
    job_error_pb2,
    job_pb2,
    operator_service_pb2,
    operator_service_pb2_grpc,
)
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import COMPLETED, FAILED, PENDING, RUNNING, ProtocolClient, refused
from tests.service_fixture import StoredFiles
from tests.worker_protocol import ProtocolWorker, artifact_file, verdicts

OLD, NEW = b"drawn by the old worker", b"drawn by the new worker"

Say = Callable[[ProtocolWorker, pb.Lease, bytes], Coroutine[Any, Any, Any]]


async def beat(worker: ProtocolWorker, lease: pb.Lease, _: bytes) -> Any:
    return verdicts(await worker.beat(lease))[lease.lease_token]


async def report(worker: ProtocolWorker, lease: pb.Lease, _: bytes) -> Any:
    return await worker.progress(lease, 0.5)


async def upload(worker: ProtocolWorker, lease: pb.Lease, picture: bytes) -> Any:
    return await worker.upload(lease, picture)


async def upload_together(worker: ProtocolWorker, lease: pb.Lease, picture: bytes) -> Any:
    return await worker.upload_together(artifact_file(lease, picture))


async def complete(worker: ProtocolWorker, lease: pb.Lease, picture: bytes) -> Any:
    return await worker.complete(lease, await worker.upload(lease, picture))


async def fail(worker: ProtocolWorker, lease: pb.Lease, _: bytes) -> Any:
    return await worker.fail(lease, job_error_pb2.ERROR_CODE_INVALID_WORKFLOW)


async def release(worker: ProtocolWorker, lease: pb.Lease, _: bytes) -> Any:
    return await worker.release(lease)


CALLS: tuple[Say, ...] = (beat, report, upload, upload_together, complete, fail, release)
#: The job's state after the holder of the lease has made the call.
AFTER: "dict[Say, job_pb2.JobStatus.ValueType]" = {
    complete: COMPLETED,
    fail: FAILED,
    release: PENDING,
}


@pytest.mark.parametrize("order", ["old first", "new first", "at once"])
async def test_only_the_holder_of_the_current_lease_is_heard_in_any_order(
    order: str,
    client: ProtocolClient,
    worker: ProtocolWorker,
    channel: grpc.aio.Channel,
    stored_files: StoredFiles,
) -> None:
    heir = ProtocolWorker(channel, "box-2")
    await heir.report_catalogue()
    operator: Any = operator_service_pb2_grpc.OperatorServiceStub(channel)
    kept = []
    for old_says, new_says in product(CALLS, CALLS):
        job = await client.create()
        old = await worker.lease_one()
        await worker.upload(old, OLD)
        await operator.RequeueJob(operator_service_pb2.RequeueJobRequest(job_id=job.id))
        new = await heir.lease_one()
        assert (old.attempt, new.attempt) == (1, 2)

        stale = stale_call(old_says, worker, old)
        holder = new_says(heir, new, NEW)
        if order == "old first":
            await stale
            await holder
        elif order == "new first":
            await holder
            await stale
        else:
            await asyncio.gather(stale, holder)

        after = await client.get(job.id)
        assert after.status == AFTER.get(new_says, RUNNING)
        first, second = after.attempts
        assert first.outcome == attempt_pb2.ATTEMPT_OUTCOME_RELEASED
        assert not first.HasField("error")
        assert bool(second.outcome) == (new_says in AFTER)
        if after.status == PENDING:
            new = await heir.lease_one()
        if after.status in (PENDING, RUNNING):
            picture = await heir.upload(new, NEW)
            assert await heir.complete(new, picture) == COMPLETED
        done = await client.get(job.id)
        ended = [one for one in done.attempts if one.outcome in FINAL_OUTCOMES]
        assert len(ended) == 1, "exactly one outcome is recorded"
        if done.status == COMPLETED:
            kept.append(NEW)
            (artifact,) = done.artifacts
            assert b"".join((await client.read(artifact.id))[1]) == NEW

    await sweep(client)
    async with asyncio.timeout(20):
        # What the losers uploaded goes away, what the winners did stays.
        while sorted(stored_files()) != kept:
            await client.list_jobs(page_size=1)


FINAL_OUTCOMES = (attempt_pb2.ATTEMPT_OUTCOME_COMPLETED, attempt_pb2.ATTEMPT_OUTCOME_FAILED)


async def stale_call(say: Say, worker: ProtocolWorker, lease: pb.Lease) -> None:
    """Make a call with the old lease, and see that it is told so."""
    if say in (beat, report):
        assert await say(worker, lease, OLD) == pb.VERDICT_LOST
        return
    error = await refused(say(worker, lease, OLD))
    assert error.status is grpc.StatusCode.ABORTED
    assert error.reason == "LEASE_LOST"


async def sweep(client: ProtocolClient) -> None:
    """Have the service look for files that nobody will read: a deletion makes it."""
    unwanted = await client.create(checkpoint_model="nobody-has-this.safetensors")
    assert (await client.cancel(unwanted.id)).status == job_pb2.JOB_STATUS_CANCELLED
    assert await client.delete(unwanted.id)
