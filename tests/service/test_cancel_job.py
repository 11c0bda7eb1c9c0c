"""CancelJob: pending jobs at once, running ones through their worker."""

import asyncio

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as jobs_pb
from generation_jobs.v1 import job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import CANCELLED, COMPLETED, RUNNING, ProtocolClient, refused
from tests.worker_protocol import ProtocolWorker


async def test_a_pending_job_is_cancelled_in_the_answer(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    cancelled = await client.cancel(job.id, "no longer needed")

    assert cancelled.status == CANCELLED
    assert cancelled.cancel_reason == "no longer needed"
    assert cancelled.HasField("cancel_requested_at")
    assert cancelled.HasField("completed_at")
    assert await worker.lease(wait=0) == []


async def test_a_running_job_is_cancelled_when_its_worker_confirms(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    asked = await client.cancel(job.id, "stop")
    assert asked.status == RUNNING
    assert asked.HasField("cancel_requested_at")
    assert not asked.HasField("completed_at")

    assert await worker.release(lease, pb.RELEASE_REASON_CANCELLED) == CANCELLED
    ended = await client.get(job.id)
    assert (ended.status, ended.cancel_reason) == (CANCELLED, "stop")
    assert await worker.lease(wait=0) == []


async def test_cancelling_again_changes_nothing(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    pending, running = await client.create(priority=-1), await client.create()
    await worker.lease_one()
    for job in (pending, running):
        first = await client.cancel(job.id, "first")
        again = await client.cancel(job.id, "second")
        assert again == first
        assert again.cancel_reason == "first"


async def test_many_cancels_at_once_are_one(client: ProtocolClient) -> None:
    job = await client.create()
    answers = await asyncio.gather(*(client.cancel(job.id) for _ in range(20)))
    assert {answer.status for answer in answers} == {CANCELLED}
    assert {answer.revision for answer in answers} == {2}


async def test_a_job_that_has_ended_otherwise_cannot_be_cancelled(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    await worker.complete(await worker.lease_one())
    error = await refused(client.cancel(job.id))

    assert error.status is grpc.StatusCode.FAILED_PRECONDITION
    assert error.reason == "WRONG_STATE"
    assert error.metadata == {"status": "completed"}
    assert (await client.get(job.id)).status == COMPLETED


async def test_a_cancel_and_a_lease_at_once_end_in_one_of_two_ways(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(10):
        job = await client.create()
        cancelled, leases = await asyncio.gather(client.cancel(job.id), worker.lease(wait=0.05))
        if leases:
            assert cancelled.status in (RUNNING, CANCELLED)
            assert await worker.release(leases[0], pb.RELEASE_REASON_CANCELLED) == CANCELLED
        assert (await client.get(job.id)).status == CANCELLED


async def test_the_next_progress_report_is_told_however_soon_it_comes(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    """Reports between two writes of a job's progress are answered from memory."""
    one, other = [await client.create(labels={"batch": "yes"}) for _ in range(2)]
    leases = await worker.lease(2)
    for _ in range(2):
        assert [await worker.progress(lease) for lease in leases] == [pb.VERDICT_CONTINUE] * 2
    first, second = sorted(leases, key=lambda lease: lease.job_id)

    await client.cancel(one.id)
    assert await worker.progress(first) == pb.VERDICT_CANCEL
    assert await worker.progress(second) == pb.VERDICT_CONTINUE
    await client.stub.BatchCancelJobs(
        jobs_pb.BatchCancelJobsRequest(filter=job_pb2.JobFilter(labels={"batch": "yes"})),
        timeout=20,
    )
    assert await worker.progress(second) == pb.VERDICT_CANCEL
    assert other.id == second.job_id
