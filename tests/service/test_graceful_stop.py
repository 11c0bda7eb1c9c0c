"""Told to stop, the service ends every held call at once and loses nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2
from generation_jobs.v1 import worker_service_pb2 as pb
from grpc_health.v1 import health_pb2, health_pb2_grpc

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import COMPLETED, ProtocolClient, refusal
from tests.worker_protocol import ProtocolWorker, artifact_header


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"shutdown_grace": timedelta(seconds=20)})


@pytest.fixture
async def stop(service_settings: Settings) -> AsyncIterator[AsyncExitStack]:
    """Holds a running service; closing it stops the service."""
    async with AsyncExitStack() as running:
        yield running


async def test_held_calls_end_at_once(stop: AsyncExitStack, service_settings: Settings) -> None:
    address = await stop.enter_async_context(server.running(service_settings))
    async with grpc.aio.insecure_channel(address) as channel:
        client, worker = ProtocolClient(channel), ProtocolWorker(channel)
        await worker.report_catalogue()
        job = await client.create()
        lease = await worker.lease_one()
        leasing = asyncio.create_task(worker.lease(wait=50))
        beating = asyncio.create_task(worker.beat(lease, wait=10))
        health = _watch_health(channel)
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        async with client.watching(job.id) as watch:
            watching = asyncio.create_task(watch.rest())
            await worker.beat(lease)

            began = time.monotonic()
            stopping = asyncio.create_task(stop.aclose())
            assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await leasing == []
            assert [verdict.verdict for verdict in (await beating).verdicts] == [
                pb.VERDICT_CONTINUE
            ]
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watching
            health.cancel()
            await stopping
    assert time.monotonic() - began < 5
    said = refusal(ended.value)
    assert said.status is grpc.StatusCode.UNAVAILABLE
    assert said.reason == "SHUTTING_DOWN"


async def test_an_upload_under_way_is_finished(
    stop: AsyncExitStack, service_settings: Settings
) -> None:
    address = await stop.enter_async_context(server.running(service_settings))
    async with grpc.aio.insecure_channel(address) as channel:
        client, worker = ProtocolClient(channel), ProtocolWorker(channel)
        await worker.report_catalogue()
        job = await client.create()
        lease = await worker.lease_one()
        upload = worker.stub.UploadArtifact(timeout=30)
        await upload.write(pb.UploadArtifactRequest(header=artifact_header(lease, b"picture")))
        health = _watch_health(channel)
        await health.read()
        stopping = asyncio.create_task(stop.aclose())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health.cancel()
        await upload.write(pb.UploadArtifactRequest(chunk=b"picture"))
        await upload.done_writing()
        artifact = (await upload).artifact
        await stopping

    # another replica takes it from there
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        worker.stub = ProtocolWorker(channel).stub
        assert await worker.complete(lease, artifact) == COMPLETED
        client = ProtocolClient(channel)
        assert b"".join((await client.read(artifact.id))[1]) == b"picture"
        assert (await client.get(job.id)).status == COMPLETED


async def test_calls_in_flight_are_answered_and_those_that_come_hear_of_the_stop(
    service_settings: Settings,
) -> None:
    """However many come while it stops, none ends otherwise, and none is done unanswered."""
    answered: set[int] = set()
    codes: Counter[grpc.StatusCode] = Counter()

    async def create(address: str, number: int) -> None:
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, own) as channel:
            client = ProtocolClient(channel)
            for turn in count():
                try:
                    job = await client.create(request_id=f"{number}-{turn}")
                except grpc.aio.AioRpcError as error:
                    codes[error.code()] += 1
                    return
                answered.add(job.id)

    for turn in range(2):
        async with server.running(service_settings) as address:
            clients = [
                asyncio.create_task(create(address, 100 * turn + number)) for number in range(20)
            ]
            enough = len(answered) + 60
            async with asyncio.timeout(30):
                while True:
                    if len(answered) >= enough:
                        break
                    await asyncio.sleep(0.01)
        await asyncio.gather(*clients)
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE}

    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stored = await ProtocolClient(channel).list_jobs(include_total=True)
    assert stored.total == len(answered)


async def test_whoever_calls_on_and_on_never_hears_of_a_cancellation(
    service_settings: Settings,
) -> None:
    """A call that gRPC itself would end as it stops is one whose connection has gone."""
    codes: Counter[grpc.StatusCode] = Counter()
    served = asyncio.Event()
    gone = asyncio.Event()

    async def call(address: str) -> None:
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, own) as channel:
            client = ProtocolClient(channel)
            while not gone.is_set():
                try:
                    await client.list_jobs()
                    served.set()
                except grpc.aio.AioRpcError as error:
                    codes[error.code()] += 1

    for _ in range(5):
        served.clear()
        gone.clear()
        async with asyncio.TaskGroup() as clients:
            async with server.running(service_settings) as address:
                for _ in range(10):
                    clients.create_task(call(address))
                await served.wait()
            gone.set()
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE}


async def test_a_reader_that_stands_still_ends_with_the_grace_period(
    stop: AsyncExitStack, service_settings: Settings
) -> None:
    short = service_settings.model_copy(update={"shutdown_grace": timedelta(seconds=1)})
    address = await stop.enter_async_context(server.running(short))
    async with grpc.aio.insecure_channel(address) as channel:
        upload = ProtocolClient(channel).stub.UploadInput(timeout=60)
        header = generation_job_service_pb2.InputHeader(filename="a.png")
        await upload.write(generation_job_service_pb2.UploadInputRequest(header=header))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(15):
            await stop.aclose()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await upload
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def _watch_health(channel: grpc.aio.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(), timeout=50)
