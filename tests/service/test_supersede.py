"""A worker restarted under its name takes over at once; its predecessor is told to go."""

import asyncio
import time

import grpc
from generation_jobs.v1 import attempt_pb2, job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb
from google.protobuf import timestamp_pb2

from tests.jobs_protocol import COMPLETED, FAILED, ProtocolClient, refused
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, seconds, verdicts

SUPERSEDED = [pb.WORKER_DIRECTIVE_SUPERSEDED]


async def test_the_successor_adopts_without_waiting_for_leases_to_expire(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    job = await client.create()
    first = await worker.lease_one()
    successor = worker.successor(channel)

    began = time.monotonic()
    second = await successor.lease_one(wait=20)
    assert time.monotonic() - began < 5
    assert (second.job_id, second.attempt) == (job.id, 2)
    assert [prior.prompt_id for prior in second.prior_prompts] == [first.prompt_id]
    assert await successor.complete(second) == COMPLETED

    attempts = (await client.get(job.id)).attempts
    assert attempts[0].outcome == attempt_pb2.ATTEMPT_OUTCOME_SUPERSEDED
    assert attempts[0].charged


async def test_meanwhile_the_job_says_that_it_waits_to_be_adopted(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    job = await client.create()
    await worker.lease_one()
    other = ProtocolWorker(channel, "box-2")
    await other.report_catalogue()
    await worker.successor(channel).beat()

    assert (await client.get(job.id)).pending_reason == job_pb2.PENDING_REASON_ADOPTION
    assert await other.lease(wait=0) == []


async def test_the_predecessor_learns_it_in_its_held_heartbeat(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    await client.create()
    lease = await worker.lease_one()
    held = asyncio.create_task(worker.beat(lease, wait=10))
    await worker.beat()
    began = time.monotonic()
    await worker.successor(channel).beat()
    answer = await held

    assert time.monotonic() - began < 2
    assert list(answer.directives) == SUPERSEDED
    again = await worker.beat(lease)
    assert list(again.directives) == SUPERSEDED
    assert verdicts(again) == {lease.lease_token: pb.VERDICT_LOST}


async def test_the_predecessor_gets_no_more_jobs(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    await worker.successor(channel).beat()
    await client.create()

    error = await refused(worker.lease())
    assert error.status is grpc.StatusCode.FAILED_PRECONDITION
    assert error.reason == "SUPERSEDED"
    error = await refused(worker.report_catalogue())
    assert error.reason == "SUPERSEDED"


async def test_a_held_lease_call_of_the_predecessor_ends_and_takes_no_job(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    held = asyncio.create_task(refused(worker.lease(wait=30)))
    await worker.beat()
    successor = worker.successor(channel)
    await successor.beat()

    assert (await held).reason == "SUPERSEDED"
    job = await client.create()
    assert (await successor.lease_one()).job_id == job.id


async def test_the_predecessors_late_reports_change_nothing(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.progress(lease, 0.9)
    await worker.successor(channel).beat()
    before = await client.get(job.id)

    # a report that only moves the bar may be answered from memory, for a second
    assert await worker.progress(lease, 0.95, prompt_id="x") == pb.VERDICT_LOST
    for call in (worker.complete(lease), worker.fail(lease), worker.release(lease)):
        assert (await refused(call)).reason == "LEASE_LOST"
    assert await client.get(job.id) == before


async def test_a_draining_predecessor_keeps_its_leases_to_the_end(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    job, other = await client.create(), await client.create()
    lease = await worker.lease_one()
    await worker.beat(lease, draining=True)
    successor = worker.successor(channel)
    assert (await successor.lease_one()).job_id == other.id

    answer = await worker.beat(lease, draining=True)
    assert list(answer.directives) == SUPERSEDED
    assert verdicts(answer) == {lease.lease_token: pb.VERDICT_CONTINUE}
    artifact = await worker.upload(lease, b"picture")
    assert await worker.complete(lease, artifact) == COMPLETED
    assert (await client.get(job.id)).attempt == 1


async def test_the_instance_seen_last_for_the_first_time_has_the_name(
    worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    newest = [worker.successor(channel) for _ in range(5)]
    for instance in newest:
        await instance.beat()
    # an older one that wakes up again does not get the name back
    for instance in (worker, *newest[:-1]):
        assert list((await instance.beat()).directives) == SUPERSEDED
    assert list((await newest[-1].beat()).directives) == []


async def test_instances_that_start_at_the_same_moment_leave_one_with_the_name(
    worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    instances = [worker.successor(channel) for _ in range(10)]
    await asyncio.gather(*(instance.beat() for instance in instances))
    answers = [await instance.beat() for instance in instances]
    assert sum(list(answer.directives) != SUPERSEDED for answer in answers) == 1


async def test_another_name_is_another_worker(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    await client.create()
    lease = await worker.lease_one()
    await ProtocolWorker(channel, "box-2").beat()
    answer = await worker.beat(lease)
    assert list(answer.directives) == []
    assert verdicts(answer) == {lease.lease_token: pb.VERDICT_CONTINUE}


async def test_a_job_that_has_started_does_not_expire_while_it_changes_hands(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel, sql: Sql
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.progress(lease, running_for=seconds(1))
    await sql.execute("UPDATE generation_jobs SET expires_at = now() - interval '1 second'")
    successor = worker.successor(channel)
    await successor.beat()
    # the upkeep loop goes round before anybody takes the job
    due = await client.create(expires_at=timestamp_pb2.Timestamp(seconds=1))
    await client.seen(due.id, FAILED)

    again = await successor.lease_one()
    assert (again.job_id, again.attempt) == (job.id, 2)
    assert await successor.complete(again) == COMPLETED
