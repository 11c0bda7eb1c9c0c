"""OperatorService: what operators see of workers, and how they drain them."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc
import pytest
from generation_jobs.v1 import job_pb2
from generation_jobs.v1 import operator_service_pb2 as operator_pb
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import COMPLETED, PENDING, ProtocolClient, refused
from tests.operator_protocol import ProtocolOperator
from tests.service_fixture import Sql
from tests.worker_protocol import CHECKPOINT, ProtocolWorker, verdicts

DRAIN = [pb.WORKER_DIRECTIVE_DRAIN]
OTHER_CHECKPOINT = "flux.safetensors"


async def test_a_worker_is_listed_with_all_that_it_says_of_itself(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    (catalogue,) = worker.catalogues
    catalogue.comfyui_version, catalogue.device = "0.3.60", "NVIDIA L4"
    await worker.report_catalogue()
    for _ in range(2):
        await client.create()
    leases = await worker.lease(2)

    (listed,) = await operator.workers()

    assert (listed.name, listed.instance_id) == ("box-1", worker.identity.instance_id)
    assert (listed.epoch, listed.version, listed.slots) == (1, "1.0", 8)
    assert (listed.live, listed.draining) == (True, False)
    assert list(listed.job_ids) == sorted(lease.job_id for lease in leases)
    assert list(listed.backend_labels) == ["comfyui"]
    assert list(listed.job_types) == [job_pb2.JOB_TYPE_IMAGE]
    assert listed.last_beat_at.seconds >= listed.registered_at.seconds > 0
    assert list(listed.backends) == [
        operator_pb.WorkerBackend(
            name="gpu0",
            slots=8,
            loaded_checkpoint=CHECKPOINT,
            comfyui_version="0.3.60",
            device="NVIDIA L4",
        )
    ]
    assert await operator.worker("box-1") == listed


async def test_each_comfyui_shows_the_checkpoint_it_was_given_last(
    client: ProtocolClient, operator: ProtocolOperator, channel: grpc.aio.Channel
) -> None:
    worker = ProtocolWorker(
        channel, backends=("gpu0", "gpu1"), checkpoints=(CHECKPOINT, OTHER_CHECKPOINT)
    )
    await worker.report_catalogue()
    assert not await worker.lease(wait=0)
    assert await loaded(operator) == {"gpu0": "", "gpu1": ""}
    for checkpoint in (CHECKPOINT, OTHER_CHECKPOINT):
        await client.create(checkpoint_model=checkpoint)
    leases = await worker.lease(2)
    given = {lease.backend: lease.job.checkpoint_model for lease in leases}
    assert len(given) == 2
    assert await loaded(operator) == given

    for lease in leases:
        await worker.complete(lease)
    assert await loaded(operator) == given

    await client.create(checkpoint_model=OTHER_CHECKPOINT)
    await client.create(checkpoint_model=OTHER_CHECKPOINT)
    for lease in await worker.lease(2):
        given[lease.backend] = OTHER_CHECKPOINT
    assert await loaded(operator) == given


async def loaded(operator: ProtocolOperator) -> dict[str, str]:
    (worker,) = await operator.workers()
    return {backend.name: backend.loaded_checkpoint for backend in worker.backends}


async def test_workers_are_listed_by_name_those_that_are_gone_on_request(
    operator: ProtocolOperator, worker: ProtocolWorker, channel: grpc.aio.Channel, sql: Sql
) -> None:
    await worker.beat()
    for name in ("box-3", "box-0"):
        await ProtocolWorker(channel, name).beat()
    await sql.execute(
        "UPDATE workers SET last_beat_at = now() - interval '1 hour' WHERE name = 'box-0'"
    )

    assert [one.name for one in await operator.workers()] == ["box-1", "box-3"]
    everybody = await operator.workers(include_gone=True)
    assert [(one.name, one.live) for one in everybody] == [
        ("box-0", False),
        ("box-1", True),
        ("box-3", True),
    ]
    assert not (await operator.worker("box-0")).live


async def test_an_older_process_is_listed_only_while_it_drains_with_leases(
    client: ProtocolClient,
    operator: ProtocolOperator,
    worker: ProtocolWorker,
    channel: grpc.aio.Channel,
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.beat(lease, draining=True)
    successor = worker.successor(channel)
    await successor.beat()

    newer, older = await operator.workers()
    assert (newer.epoch, newer.draining, list(newer.job_ids)) == (2, False, [])
    assert (older.epoch, older.draining, list(older.job_ids)) == (1, True, [job.id])
    assert (await operator.worker("box-1")).instance_id == successor.identity.instance_id

    await worker.complete(lease)
    assert await operator.workers() == [await operator.worker("box-1")]


async def test_a_drain_ends_the_held_calls_at_once_and_the_worker_gets_no_more(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    running = await client.create()
    lease = await worker.lease_one()
    beat = asyncio.create_task(worker.beat(lease, wait=10))
    leasing = asyncio.create_task(worker.ask(wait=30))
    await worker.beat(lease)
    began = time.monotonic()

    drained = await operator.drain("box-1")

    assert drained.draining
    answer = await beat
    assert list(answer.directives) == DRAIN
    assert verdicts(answer) == {lease.lease_token: pb.VERDICT_CONTINUE}
    assert await leasing == pb.LeaseJobsResponse(directives=DRAIN)
    assert time.monotonic() - began < 2

    waiting = await client.create()
    assert await worker.ask(wait=30) == pb.LeaseJobsResponse(directives=DRAIN)
    assert (await client.get(waiting.id)).pending_reason == (
        job_pb2.PENDING_REASON_NO_WORKER_OFFERS
    )
    # What it has it may finish.
    assert await worker.complete(lease) == COMPLETED
    assert (await client.get(running.id)).status == COMPLETED
    assert (await client.get(waiting.id)).status == PENDING


async def test_a_drain_outlives_the_process_and_ends_with_resume(
    client: ProtocolClient,
    operator: ProtocolOperator,
    worker: ProtocolWorker,
    channel: grpc.aio.Channel,
) -> None:
    await worker.beat()
    await operator.drain("box-1")
    job = await client.create()
    successor = worker.successor(channel)
    assert list((await successor.beat()).directives) == DRAIN
    assert await successor.ask(wait=30) == pb.LeaseJobsResponse(directives=DRAIN)
    assert (await operator.worker("box-1")).draining
    held = asyncio.create_task(successor.beat(wait=10))
    # a short call of another worker: what the held one has read by now is older
    await ProtocolWorker(channel, "box-2").beat()
    began = time.monotonic()

    resumed = await operator.resume("box-1")

    assert not resumed.draining
    assert list((await held).directives) == []
    assert time.monotonic() - began < 2
    assert (await successor.lease_one()).job_id == job.id


async def test_draining_twice_and_resuming_a_worker_that_is_not_drained_change_nothing(
    operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    await worker.beat()
    assert not (await operator.resume("box-1")).draining
    assert (await operator.drain("box-1")).draining
    assert (await operator.drain("box-1")).draining


Call = Callable[[ProtocolOperator, str], Awaitable[operator_pb.Worker]]
BY_NAME: list[Call] = [ProtocolOperator.worker, ProtocolOperator.drain, ProtocolOperator.resume]


@pytest.mark.parametrize("call", BY_NAME)
async def test_a_worker_that_nobody_knows(call: Call, operator: ProtocolOperator) -> None:
    error = await refused(call(operator, "box-9"))
    assert (error.status, error.reason) == (grpc.StatusCode.NOT_FOUND, "WORKER_NOT_FOUND")
    assert "box-9" in error.message


@pytest.mark.parametrize("name", ["", "box\0", "b" * 64])
@pytest.mark.parametrize("call", BY_NAME)
async def test_what_cannot_be_a_name(call: Call, name: str, operator: ProtocolOperator) -> None:
    error = await refused(call(operator, name))
    assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("name",))
