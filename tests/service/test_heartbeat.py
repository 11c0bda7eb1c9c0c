"""Heartbeat: held while nothing happens, answered at once when something concerns the worker."""

import asyncio
import time

import grpc
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import CANCELLED, PENDING, ProtocolClient, refused
from tests.worker_protocol import ProtocolWorker, seconds, verdicts


async def test_it_is_held_while_nothing_happens_and_returns_by_its_wait(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    began = time.monotonic()
    answer = await worker.beat(lease, wait=0.5)

    assert 0.45 < time.monotonic() - began < 3
    assert verdicts(answer) == {lease.lease_token: pb.VERDICT_CONTINUE}
    assert answer.lease_ttl == seconds(30)


async def test_without_wait_it_answers_at_once(worker: ProtocolWorker) -> None:
    began = time.monotonic()
    for _ in range(10):
        assert list((await worker.beat()).verdicts) == []
    assert time.monotonic() - began < 3


async def test_a_cancel_ends_the_held_call_at_once_and_the_next_is_held_again(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    held = asyncio.create_task(worker.beat(lease, wait=10))
    await worker.beat(lease)
    began = time.monotonic()
    await client.cancel(job.id)
    answer = await held
    assert time.monotonic() - began < 1
    assert verdicts(answer) == {lease.lease_token: pb.VERDICT_CANCEL}

    # told once, it does not come back before the wait is over
    began = time.monotonic()
    again = await worker.beat(lease, wait=0.5)
    assert time.monotonic() - began > 0.45
    assert verdicts(again) == {lease.lease_token: pb.VERDICT_CANCEL}
    assert await worker.release(lease, pb.RELEASE_REASON_CANCELLED) == CANCELLED


async def test_a_cancel_of_a_job_leased_meanwhile_ends_the_held_call_too(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    held = asyncio.create_task(worker.beat(wait=10))
    await worker.beat()
    job = await client.create()
    lease = await worker.lease_one()
    await client.cancel(job.id)
    assert verdicts(await held) == {lease.lease_token: pb.VERDICT_CANCEL}


async def test_a_cancel_of_somebody_elses_job_disturbs_nobody(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    other = ProtocolWorker(channel, "box-2")
    await other.report_catalogue()
    job = await client.create()
    await other.lease_one()
    held = asyncio.create_task(worker.beat(wait=0.7))
    await worker.beat()
    began = time.monotonic()
    await client.cancel(job.id)
    assert list((await held).verdicts) == []
    assert time.monotonic() - began > 0.4


async def test_progress_answers_a_cancel_too(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await client.cancel(job.id)
    assert await worker.progress(lease) == pb.VERDICT_CANCEL


async def test_a_lease_that_has_ended_is_lost(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    await worker.complete(lease)
    never = pb.Lease(job_id=4711, lease_token=lease.lease_token)
    answer = await worker.beat(lease, never, wait=10)
    assert [verdict.verdict for verdict in answer.verdicts] == [pb.VERDICT_LOST] * 2


async def test_a_lease_that_was_not_listed_is_unclaimed(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(2):
        await client.create()
    known, lost = await worker.lease(max_jobs=2, request_id="lost answer")
    answer = await worker.beat(known)
    assert verdicts(answer) == {
        known.lease_token: pb.VERDICT_CONTINUE,
        lost.lease_token: pb.VERDICT_UNCLAIMED,
    }
    # the worker finds it again with the request_id of the lost answer
    again = {lease.lease_token for lease in await worker.lease(2, request_id="lost answer")}
    assert again == {known.lease_token, lost.lease_token}
    assert set(verdicts(await worker.beat(known, lost)).values()) == {pb.VERDICT_CONTINUE}


async def test_a_lease_left_unclaimed_goes_back_to_the_queue_uncharged(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    assert verdicts(await worker.beat()) == {lease.lease_token: pb.VERDICT_UNCLAIMED}
    # not because of many quick beats: an answer may still be on its way
    for _ in range(5):
        assert verdicts(await worker.beat()) == {lease.lease_token: pb.VERDICT_UNCLAIMED}
    await worker.beat(wait=5.1)
    assert verdicts(await worker.beat()) == {}

    waiting = await client.get(job.id)
    assert (waiting.status, waiting.attempts_charged) == (PENDING, 0)
    assert (await refused(worker.complete(lease))).reason == "LEASE_LOST"
    other = ProtocolWorker(channel, "box-2")
    await other.report_catalogue()
    assert (await other.lease_one()).attempt == 2


async def test_two_calls_at_once_are_both_answered(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    held = [asyncio.create_task(worker.beat(lease, wait=10)) for _ in range(2)]
    await worker.beat(lease)
    await client.cancel(job.id)
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*held)
    assert {pb.VERDICT_CANCEL} == {
        verdict for answer in answers for verdict in verdicts(answer).values()
    }


async def test_a_bad_heartbeat_names_its_wrong_fields(worker: ProtocolWorker) -> None:
    request = pb.HeartbeatRequest(
        worker=pb.WorkerIdentity(name="", instance_id="x"),
        leases=[pb.LeaseRef(job_id=0, lease_token="x")],
        wait=seconds(61),
    )
    error = await refused(worker.stub.Heartbeat(request, timeout=20))
    assert {"worker.name", "worker.instance_id", "leases[0].job_id", "leases[0].lease_token",
            "wait"} <= set(error.fields)  # fmt: skip


async def test_a_million_listed_leases_are_refused_at_once(worker: ProtocolWorker) -> None:
    request = pb.HeartbeatRequest(
        worker=worker.identity, leases=[pb.LeaseRef(job_id=1)] * 1_000_000
    )
    error = await refused(worker.stub.Heartbeat(request, timeout=10))
    assert error.fields[0] == "leases"
