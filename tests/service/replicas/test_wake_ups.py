"""What happens at one replica reaches the calls that another one holds."""

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest
from generation_jobs.v1 import job_pb2, model_service_pb2, model_service_pb2_grpc
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import COMPLETED, refusal
from tests.service.replicas.conftest import Replica, StartReplica
from tests.worker_protocol import CHECKPOINT, verdicts

#: Seconds for what must come; nothing comes by itself within them.
SOON = 30


async def test_a_job_reaches_a_worker_that_waits_at_another_replica(
    here: Replica, there: Replica
) -> None:
    worker = await there.known_worker()
    for _ in range(3):
        waiting = await there.holding(worker.lease_one(wait=SOON))
        job = await here.client.create()
        lease = await waiting
        assert lease.job_id == job.id
        await worker.complete(lease)


async def test_so_does_a_job_with_needs_that_no_job_had_before(
    here: Replica, there: Replica
) -> None:
    worker = await there.known_worker(checkpoints=[CHECKPOINT, "flux.safetensors"])
    waiting = await there.holding(worker.lease_one(wait=SOON))
    job = await here.client.create(checkpoint_model="flux.safetensors")
    assert (await waiting).job_id == job.id


async def test_so_do_jobs_of_a_batch_and_jobs_that_come_back(here: Replica, there: Replica) -> None:
    worker = await there.known_worker()
    job = await here.client.create()
    lease = await worker.lease_one()
    waiting = await there.holding(worker.lease_one(wait=SOON))
    other = await here.known_worker("box-2")
    await here.client.cancel(job.id)
    assert await other.release(lease, pb.RELEASE_REASON_CANCELLED) != job_pb2.JOB_STATUS_PENDING
    again = await here.client.create()
    assert (await waiting).job_id == again.id
    waiting = await there.holding(worker.lease_one(wait=SOON))
    retried = await here.client.create()
    lease = await waiting
    assert lease.job_id == retried.id
    waiting = await there.holding(worker.lease_one(wait=SOON))
    await other.fail(lease, retry_after=0)
    assert (await waiting).job_id == retried.id


async def test_a_cancel_reaches_a_heartbeat_held_at_another_replica(
    here: Replica, there: Replica
) -> None:
    worker = await there.known_worker()
    job = await here.client.create()
    lease = await worker.lease_one()
    beat = await there.holding(worker.beat(lease, wait=60))
    await here.client.cancel(job.id)
    assert verdicts(await asyncio.wait_for(beat, SOON)) == {lease.lease_token: pb.VERDICT_CANCEL}


async def test_a_cancel_is_told_with_the_next_report_at_another_replica(
    here: Replica, there: Replica
) -> None:
    worker = await there.known_worker()
    job = await here.client.create()
    lease = await worker.lease_one()
    beat = await there.holding(worker.beat(lease, wait=60))
    assert await worker.progress(lease, 0.1) == pb.VERDICT_CONTINUE
    await here.client.cancel(job.id)
    await asyncio.wait_for(beat, SOON)
    # within the second in which progress is not written down
    assert await worker.progress(lease, 0.2) == pb.VERDICT_CANCEL


async def test_a_drain_reaches_every_call_held_at_another_replica(
    here: Replica, there: Replica
) -> None:
    worker = await there.known_worker()
    beat = await there.holding(worker.beat(wait=60))
    waiting = await there.holding(worker.ask(wait=SOON))
    await here.operator.drain("box-1")
    assert (await asyncio.wait_for(beat, SOON)).directives == [pb.WORKER_DIRECTIVE_DRAIN]
    assert (await waiting).directives == [pb.WORKER_DIRECTIVE_DRAIN]

    beat = await there.holding(worker.beat(wait=60))
    await here.operator.resume("box-1")
    assert not (await asyncio.wait_for(beat, SOON)).directives


async def test_a_pause_and_its_end_reach_workers_at_another_replica(
    here: Replica, there: Replica
) -> None:
    worker = await there.known_worker(checkpoints=[CHECKPOINT, "flux.safetensors"])
    flux = await here.client.create(checkpoint_model="flux.safetensors")
    await worker.complete(await worker.lease_one())
    await here.operator.pause(checkpoint_model="flux.safetensors")
    paused = await here.client.create(checkpoint_model="flux.safetensors")
    deadline = time.monotonic() + SOON
    while (await there.client.get(paused.id)).pending_reason != job_pb2.PENDING_REASON_PAUSED:
        assert time.monotonic() < deadline
    waiting = await there.holding(worker.lease_one(wait=SOON))
    other = await here.client.create()
    assert (await waiting).job_id == other.id
    waiting = await there.holding(worker.lease_one(wait=SOON))
    await here.operator.unpause(checkpoint_model="flux.safetensors")
    assert (await waiting).job_id == paused.id
    assert (await there.client.get(flux.id)).status == COMPLETED


async def test_a_successor_at_one_replica_dismisses_its_predecessor_at_another(
    here: Replica, there: Replica
) -> None:
    old = await there.known_worker()
    await here.client.create()
    lease = await old.lease_one()
    beat = await there.holding(old.beat(lease, wait=60))
    waiting = await there.holding(old.ask(wait=SOON))

    new = old.successor(here.channel)
    await new.report_catalogue()
    adopted = await new.lease_one(wait=SOON)

    answer = await asyncio.wait_for(beat, SOON)
    assert answer.directives == [pb.WORKER_DIRECTIVE_SUPERSEDED]
    assert verdicts(answer) == {lease.lease_token: pb.VERDICT_LOST}
    with pytest.raises(grpc.aio.AioRpcError) as dismissed:
        await asyncio.wait_for(waiting, SOON)
    assert refusal(dismissed.value).reason == "SUPERSEDED"
    assert adopted.job_id == lease.job_id


async def test_workers_of_every_replica_are_asked_for_their_catalogues(
    here: Replica, there: Replica
) -> None:
    worker = await there.known_worker()
    beat = await there.holding(worker.beat(wait=60))
    models = model_service_pb2_grpc.ModelServiceStub(here.channel)
    answer = await models.RefreshModels(model_service_pb2.RefreshModelsRequest(), timeout=20)
    assert answer.workers_asked == 1
    told = await asyncio.wait_for(beat, SOON)
    assert told.directives == [pb.WORKER_DIRECTIVE_REFRESH_CATALOGUE]

    # A load balancer may take the report to either.
    elsewhere = here.worker()
    elsewhere.identity.CopyFrom(worker.identity)
    worker.offers([CHECKPOINT, "flux.safetensors"])
    elsewhere.catalogues = worker.catalogues
    beat = await there.holding(worker.beat(wait=60))
    await elsewhere.report_catalogue()
    job = await here.client.create(checkpoint_model="flux.safetensors")
    assert (await worker.lease_one(wait=SOON)).job_id == job.id
    await here.client.cancel(job.id)
    assert not (await asyncio.wait_for(beat, SOON)).directives


async def test_room_that_a_user_gets_at_one_replica_is_used_at_another(
    start_replica: StartReplica,
) -> None:
    one_at_once = {"max_running_per_user": 1}
    here, there = await start_replica(**one_at_once), await start_replica(**one_at_once)
    user = str(uuid4())
    worker = await there.known_worker()
    first, second = [await here.client.create(user_id=user) for _ in range(2)]
    lease = await worker.lease_one()
    assert lease.job_id == first.id
    waiting = await there.holding(worker.lease_one(wait=20))
    await worker.complete(lease)
    assert (await waiting).job_id == second.id


async def test_a_replica_that_was_stopped_is_missed_by_nobody(
    start_replica: StartReplica, here: Replica, there: Replica
) -> None:
    third = await start_replica(shutdown_grace=timedelta(seconds=0.1))
    worker = await third.known_worker("box-3")
    waiting = await third.holding(worker.lease_one(wait=SOON))
    job = await there.client.create()
    assert (await waiting).job_id == job.id
