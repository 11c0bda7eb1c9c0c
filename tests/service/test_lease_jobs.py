"""LeaseJobs: who gets which jobs, how many, and how soon."""

import asyncio
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc
from generation_jobs.v1 import job_error_pb2, job_pb2
from google.protobuf import timestamp_pb2

from tests.jobs_protocol import (
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    ProtocolClient,
    refused,
)
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker


async def test_a_lease_says_all_the_worker_needs(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    created = await client.create(sampler=job_pb2.Sampler(seed=7))
    lease = await worker.lease_one()

    assert lease.job_id == created.id
    assert UUID(lease.lease_token)
    assert UUID(lease.prompt_id).version == 5
    assert lease.attempt == 1
    assert lease.backend == "gpu0"
    assert list(lease.prior_prompts) == []
    assert timedelta(seconds=30) <= lease.ttl.ToTimedelta() < timedelta(seconds=40)
    assert lease.job.status == RUNNING
    assert lease.job.attempt == 1
    for same in ("prompt", "checkpoint_model", "width", "height", "sampler", "params_json"):
        assert getattr(lease.job, same) == getattr(created, same)
    job = await client.get(created.id)
    assert (job.worker, job.comfyui_backend) == ("box-1", "box-1/gpu0")
    assert job.HasField("leased_at")
    assert not job.HasField("started_at")


async def test_a_waiting_worker_is_woken_by_create_job(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    waiting = asyncio.create_task(worker.lease_one(wait=30))
    # answered only after the held call has been taken in
    await worker.beat()
    began = time.monotonic()
    job = await client.create()
    lease = await waiting

    assert lease.job_id == job.id
    assert time.monotonic() - began < 1


async def test_without_work_the_answer_is_empty_and_in_time(worker: ProtocolWorker) -> None:
    began = time.monotonic()
    assert await worker.lease(wait=0.3) == []
    assert 0.2 < time.monotonic() - began < 5


async def test_a_worker_that_will_not_wait_is_answered_at_once(worker: ProtocolWorker) -> None:
    for _ in range(50):
        answer = await worker.stub.LeaseJobs(worker.lease_request(wait=0), timeout=5)
        assert list(answer.leases) == []


async def test_a_worker_that_will_not_wait_gets_what_is_there(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(10):
        job = await client.create()
        (lease,) = await worker.lease(wait=0)
        assert lease.job_id == job.id


async def test_two_hundred_jobs_are_leased_once_each(
    client: ProtocolClient, channel: grpc.aio.Channel
) -> None:
    jobs = await asyncio.gather(*(client.create() for _ in range(200)))
    workers = [ProtocolWorker(channel, f"box-{n}", slots=64) for n in range(10)]
    await asyncio.gather(*(worker.report_catalogue() for worker in workers))

    async def take_all(worker: ProtocolWorker) -> list[int]:
        taken: list[int] = []
        while leases := await worker.lease(max_jobs=3, wait=0):
            taken += [lease.job_id for lease in leases]
        return taken

    taken = await asyncio.gather(*(take_all(worker) for worker in workers for _ in range(2)))

    times = Counter(job_id for ids in taken for job_id in ids)
    assert times == Counter(job.id for job in jobs)


async def test_no_more_than_max_jobs_are_leased(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(5):
        await client.create()
    assert len(await worker.lease(max_jobs=3)) == 3


async def test_jobs_are_spread_over_comfyuis_within_their_free_slots(
    client: ProtocolClient, channel: grpc.aio.Channel
) -> None:
    worker = ProtocolWorker(channel, backends=("gpu0", "gpu1", "gpu2"))
    await worker.report_catalogue()
    for _ in range(12):
        await client.create()

    first = await worker.lease(max_jobs=4, free_slots=2)
    assert sorted(Counter(lease.backend for lease in first).values()) == [1, 1, 2]
    rest = await worker.lease(max_jobs=64, free_slots=2)
    assert Counter(lease.backend for lease in rest) == {"gpu0": 2, "gpu1": 2, "gpu2": 2}


async def test_without_free_slots_nothing_is_leased(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    assert await worker.lease(free_slots=0, wait=0.1) == []


async def test_higher_priority_goes_first_then_first_come_first_served(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    jobs = [await client.create(priority=priority) for priority in (0, -5, 7, 0, 100, 7)]

    leases = [await worker.lease_one() for _ in jobs]
    assert [lease.job_id for lease in leases] == [jobs[n].id for n in (4, 2, 5, 0, 3, 1)]


async def test_repeating_a_request_answers_the_leases_it_got(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(4):
        await client.create()
    first = await worker.lease(max_jobs=2, request_id="lost answer")
    again = await worker.lease(max_jobs=2, request_id="lost answer")

    assert {lease.lease_token for lease in again} == {lease.lease_token for lease in first}
    assert {lease.job_id: lease.prompt_id for lease in again} == {
        lease.job_id: lease.prompt_id for lease in first
    }
    assert {lease.backend for lease in again} == {"gpu0"}
    assert len(await worker.lease(max_jobs=2, request_id="next")) == 2


async def test_a_repeated_request_does_not_answer_leases_that_have_ended(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(2):
        await client.create()
    done, held = await worker.lease(max_jobs=2, request_id="r")
    assert await worker.complete(done) == COMPLETED

    again = await worker.lease(max_jobs=2, request_id="r")
    assert [lease.lease_token for lease in again] == [held.lease_token]


async def test_a_repeated_request_answers_no_other_workers_leases(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    other = ProtocolWorker(channel, "box-2")
    await other.report_catalogue()
    await client.create()
    await worker.lease_one(request_id="1")
    assert await other.lease(request_id="1", wait=0) == []


async def test_a_scheduled_job_is_leased_when_it_becomes_due(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    due = datetime.now(UTC) + timedelta(seconds=1)
    job = await client.create(scheduled_at=_timestamp(due))
    assert job.pending_reason == job_pb2.PENDING_REASON_SCHEDULED

    lease = await worker.lease_one(wait=20)
    assert lease.job_id == job.id
    leased_at = (await client.get(job.id)).leased_at.ToDatetime(tzinfo=UTC)
    assert due <= leased_at < due + timedelta(seconds=2)


async def test_a_job_scheduled_in_the_past_is_due(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create(scheduled_at=timestamp_pb2.Timestamp(seconds=1_000_000))
    assert (await worker.lease_one()).job_id == job.id


async def test_a_job_that_could_not_start_in_time_expires(client: ProtocolClient) -> None:
    job = await client.create(expires_at=_timestamp(datetime.now(UTC) + timedelta(seconds=1)))
    assert job.status == PENDING

    ended = await client.seen(job.id, FAILED)
    assert ended.error.code == job_error_pb2.ERROR_CODE_EXPIRED
    assert ended.HasField("completed_at")
    assert ended.attempt == 0
    assert not ended.error.attempts_exhausted


async def test_a_job_past_its_time_is_not_leased(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for _ in range(5):
        await client.create(expires_at=timestamp_pb2.Timestamp(seconds=1_000_000))
        assert await worker.lease(wait=0) == []
    behind = await client.create()
    assert (await worker.lease_one()).job_id == behind.id


async def test_a_lease_answer_stops_at_three_megabytes_and_loses_no_job(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    params = json.dumps({"text": "x" * 250_000})
    jobs = await asyncio.gather(*(client.create(params_json=params) for _ in range(16)))

    taken: list[int] = []
    while leases := await worker.lease(max_jobs=16, free_slots=16, wait=0):
        assert sum(lease.ByteSize() for lease in leases) <= 3 * 1024 * 1024
        taken += [lease.job_id for lease in leases]
    assert sorted(taken) == sorted(job.id for job in jobs)
    charged = await sql.execute("SELECT sum(attempts_charged) FROM generation_jobs")
    assert await charged.fetchone() == (0,)


async def test_many_idle_workers_do_not_keep_a_job_from_the_one_that_can_run_it(
    client: ProtocolClient, channel: grpc.aio.Channel
) -> None:
    idle = [
        ProtocolWorker(channel, f"idle-{n}", checkpoints=["other.safetensors"], slots=64)
        for n in range(5)
    ]
    # somebody has to ask for the other checkpoint, else no key leads to the idle workers
    other = await client.create(checkpoint_model="other.safetensors")
    await asyncio.gather(*(worker.report_catalogue() for worker in idle))
    await idle[0].lease_one()
    waiting = [asyncio.create_task(worker.lease(max_jobs=64, wait=30)) for worker in idle]
    await idle[0].beat()
    able = ProtocolWorker(channel, "able")
    await able.report_catalogue()

    job = await client.create()
    lease = await able.lease_one(wait=10)
    assert lease.job_id == job.id != other.id
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_bad_lease_request_names_its_wrong_fields(worker: ProtocolWorker) -> None:
    request = worker.lease_request(max_jobs=65, wait=61, request_id="")
    request.worker.name = "no spaces"
    request.worker.instance_id = "no uuid"
    request.offer.backends[0].name = ""
    request.offer.backends[0].free_slots = -1
    request.offer.backend_labels.append("\0")

    error = await refused(worker.stub.LeaseJobs(request, timeout=20))
    assert error.reason == "INVALID_FIELDS"
    assert {
        "worker.name", "worker.instance_id", "max_jobs", "wait", "request_id",
        "offer.backends[0].name", "offer.backends[0].free_slots", "offer.backend_labels[0]",
    } <= set(error.fields)  # fmt: skip


async def test_an_offer_of_a_million_labels_is_refused_at_once(worker: ProtocolWorker) -> None:
    request = worker.lease_request()
    request.offer.backend_labels.extend(["x"] * 1_000_000)
    request.offer.job_types.extend([job_pb2.JOB_TYPE_IMAGE] * 1_000_000)

    error = await refused(worker.stub.LeaseJobs(request, timeout=5))
    assert {"offer.backend_labels", "offer.job_types"} == set(error.fields)


async def test_an_instance_serves_under_one_name_only(worker: ProtocolWorker) -> None:
    request = worker.lease_request(wait=0)
    request.worker.name = "somebody-else"
    error = await refused(worker.stub.LeaseJobs(request, timeout=20))
    assert error.fields == ("worker.instance_id",)


async def test_a_worker_is_not_given_types_it_does_not_declare(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    video = await client.create(job_type=job_pb2.JOB_TYPE_VIDEO)
    assert await worker.lease(wait=0) == []
    # a type of a newer contract is no reason to refuse the worker
    newer: Any = 99
    worker.offer.job_types.extend([job_pb2.JOB_TYPE_VIDEO, newer])
    assert (await worker.lease_one()).job_id == video.id


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(moment)
    return stamp


async def test_the_time_a_lease_lasts_counts_from_the_call(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    waiting = asyncio.create_task(worker.lease_one(wait=20))
    await worker.beat(wait=0.5)
    await client.create()
    assert (await waiting).ttl.ToTimedelta() > timedelta(seconds=30.4)
