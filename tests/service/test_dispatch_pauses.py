"""PauseDispatch and ResumeDispatch: jobs that an operator keeps waiting."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import job_pb2
from generation_jobs.v1 import operator_service_pb2 as pb

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import COMPLETED, ProtocolClient, refused
from tests.operator_protocol import ProtocolOperator
from tests.worker_protocol import CHECKPOINT, ProtocolWorker

OTHER_CHECKPOINT = "flux.safetensors"
#: A pause, and a job that it concerns.
PAUSES = [
    ({"checkpoint_model": OTHER_CHECKPOINT}, {"checkpoint_model": OTHER_CHECKPOINT}),
    ({"backend_label": "kerniegen"}, {"backend": "kerniegen"}),
]


@pytest.fixture
async def worker(channel: grpc.aio.Channel) -> ProtocolWorker:
    """A worker that can run all jobs here."""
    connected = ProtocolWorker(channel, checkpoints=(CHECKPOINT, OTHER_CHECKPOINT))
    connected.offer.backend_labels.extend(["comfyui", "kerniegen"])
    await connected.report_catalogue()
    await connected.lease(wait=0)
    return connected


@pytest.mark.parametrize(("selector", "concerned"), PAUSES)
async def test_paused_jobs_wait_and_keep_nobody_else_waiting(
    selector: dict[str, Any],
    concerned: dict[str, Any],
    client: ProtocolClient,
    operator: ProtocolOperator,
    worker: ProtocolWorker,
) -> None:
    running = await client.create(**concerned)
    lease = await worker.lease_one()
    paused = [await client.create(priority=9, **concerned) for _ in range(2)]
    other = await client.create()

    assert await operator.pause("the disk is being changed", **selector) == 2

    assert [lease.job_id for lease in await worker.lease(8)] == [other.id]
    later = await client.create(**concerned)
    assert await worker.lease(8, wait=0) == []
    for job in (*paused, later):
        assert (await client.get(job.id)).pending_reason == job_pb2.PENDING_REASON_PAUSED
    # what ran goes on
    assert await worker.complete(lease) == COMPLETED
    assert (await client.get(running.id)).status == COMPLETED

    waiting = asyncio.create_task(worker.lease(8, wait=30))
    await worker.beat()
    began = time.monotonic()
    assert await operator.unpause(**selector) == 3
    leased = await waiting
    assert time.monotonic() - began < 2
    assert {lease.job_id for lease in leased} <= {job.id for job in (*paused, later)}


async def test_pausing_again_changes_nothing_and_one_resume_ends_it(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    assert await operator.pause("first", checkpoint_model=CHECKPOINT) == 1
    assert await operator.pause("second", checkpoint_model=CHECKPOINT) == 1
    assert await worker.lease(wait=0) == []
    assert await operator.unpause(checkpoint_model=CHECKPOINT) == 1
    assert (await worker.lease_one()).job_id == job.id
    assert await operator.unpause(checkpoint_model=CHECKPOINT) == 0


async def test_a_job_under_two_pauses_waits_for_the_end_of_both(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    await operator.pause(checkpoint_model=CHECKPOINT)
    await operator.pause(backend_label="comfyui")
    # nothing can be dispatched again yet
    assert await operator.unpause(checkpoint_model=CHECKPOINT) == 0
    assert await worker.lease(wait=0) == []
    assert await operator.unpause(backend_label="comfyui") == 1
    assert (await worker.lease_one()).job_id == job.id


async def test_a_pause_outlives_the_service(service_settings: Settings) -> None:
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await ProtocolOperator(channel).pause(checkpoint_model=CHECKPOINT)
        job = await ProtocolClient(channel).create()
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        worker = ProtocolWorker(channel)
        await worker.report_catalogue()
        assert await worker.lease(wait=0) == []
        waiting = await ProtocolClient(channel).get(job.id)
        assert waiting.pending_reason == job_pb2.PENDING_REASON_PAUSED
        await ProtocolOperator(channel).unpause(checkpoint_model=CHECKPOINT)
        assert (await worker.lease_one()).job_id == job.id


BAD_SELECTORS = [
    (pb.DispatchSelector(), "selector"),
    (pb.DispatchSelector(backend_label=""), "selector.backend_label"),
    (pb.DispatchSelector(backend_label="b" * 64), "selector.backend_label"),
    (pb.DispatchSelector(checkpoint_model=""), "selector.checkpoint_model"),
    (pb.DispatchSelector(checkpoint_model="c\0"), "selector.checkpoint_model"),
]


@pytest.mark.parametrize(("selector", "field"), BAD_SELECTORS)
async def test_a_pause_names_what_it_concerns(
    selector: pb.DispatchSelector, field: str, operator: ProtocolOperator
) -> None:
    for call in (
        operator.stub.PauseDispatch(pb.PauseDispatchRequest(selector=selector), timeout=20),
        operator.stub.ResumeDispatch(pb.ResumeDispatchRequest(selector=selector), timeout=20),
    ):
        error = await refused(call)
        assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))


async def test_a_reason_that_is_too_long_pauses_nothing(
    client: ProtocolClient, operator: ProtocolOperator, worker: ProtocolWorker
) -> None:
    job = await client.create()
    error = await refused(operator.pause("x" * 501, checkpoint_model=CHECKPOINT))
    assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("reason",))
    assert (await worker.lease_one()).job_id == job.id
