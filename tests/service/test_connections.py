"""Old connections are replaced without anybody noticing; those that ping too often are cut."""

import asyncio
from datetime import timedelta

import grpc
import psutil
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb

from job_service import server
from job_service.client import JobServiceClient, JobServiceError
from job_service.client.channel import CHANNEL_OPTIONS
from job_service.settings import Settings
from tests.fuzz.raw_http2 import (
    PREFACE,
    WINDOW_UPDATE,
    RawConnection,
    call_headers,
    frame,
    message,
    opened,
    sent,
    settings,
)
from tests.jobs_protocol import COMPLETED, ProtocolClient, a_job
from tests.worker_protocol import ProtocolWorker

READ_ARTIFACT = "/generation_jobs.v1.GenerationJobService/ReadArtifact"
INITIAL_WINDOW_SIZE = 4
"""Of a stream, as HTTP/2 numbers its settings."""
WIDEST = 2**31 - 1


async def test_clients_survive_the_end_of_their_connections(service_settings: Settings) -> None:
    short_lived = service_settings.model_copy(
        update={
            "max_connection_age": timedelta(seconds=1),
            "max_connection_age_grace": timedelta(seconds=1),
        }
    )
    interruptions: list[JobServiceError] = []
    created: set[int] = set()
    seen: set[int] = set()

    async def watch(client: JobServiceClient) -> None:
        async for event in client.watch_jobs(on_interruption=interruptions.append):
            if event.HasField("job"):
                seen.add(event.job.id)

    async with server.running(short_lived) as address, JobServiceClient(address) as client:
        watching = asyncio.create_task(watch(client))
        async with asyncio.timeout(60):
            # until a stream has been cut at the end of two connections' lives, and goes on
            while len(interruptions) < 2 or not created <= seen:
                assert not watching.done()
                job = await client.create_job(a_job())
                if len(interruptions) < 2:
                    created.add(job.id)
                await asyncio.sleep(0.01)
        watching.cancel()
    assert {error.status for error in interruptions} == {grpc.StatusCode.UNAVAILABLE}


@pytest.mark.heavy
async def test_whoever_pings_too_often_is_disconnected(service_settings: Settings) -> None:
    strict = service_settings.model_copy(update={"min_ping_interval": timedelta(minutes=5)})
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with server.running(strict) as address:
        async with grpc.aio.insecure_channel(address, options) as channel:
            client = ProtocolClient(channel)
            job = await client.create()
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                async with client.watching(job.id) as watch:
                    await watch.rest()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert ended.value.details() == "Too many pings"
        async with grpc.aio.insecure_channel(address) as channel:
            assert (await ProtocolClient(channel).get(job.id)).id == job.id


async def test_a_connection_on_which_nothing_moves_is_pinged(service_settings: Settings) -> None:
    often = service_settings.model_copy(update={"ping_interval": timedelta(seconds=1)})
    async with server.running(often) as address, RawConnection(address) as silent:
        await silent.send(PREFACE + settings())
        async with asyncio.timeout(Settings().ping_interval.total_seconds() / 2):
            while not silent.pings:
                await silent.read_frame()


async def test_a_peer_that_acknowledges_nothing_for_the_ping_timeout_is_disconnected(
    service_settings: Settings,
) -> None:
    strict, lenient = (
        service_settings.model_copy(update={"ping_timeout": timeout})
        for timeout in (timedelta(seconds=1), timedelta(hours=1))
    )
    async with (
        server.running(lenient) as address,
        server.running(strict) as strict_address,
        grpc.aio.insecure_channel(address) as channel,
        RawConnection(address) as kept,
        RawConnection(strict_address) as dropped,
    ):
        client, worker = ProtocolClient(channel), ProtocolWorker(channel)
        await worker.report_catalogue()
        await client.create()
        # More than the buffers of both sides hold; what they hold not is never acknowledged.
        artifact = await worker.upload(await worker.lease_one(), bytes(32 * 1024**2))
        for connection in (kept, dropped):
            await connection.send(PREFACE + settings({INITIAL_WINDOW_SIZE: WIDEST}))
            await connection.send(frame(WINDOW_UPDATE, (WIDEST - 65_535).to_bytes(4)))
            await connection.send(opened(1, call_headers(READ_ARTIFACT)))
            request = pb.ReadArtifactRequest(artifact_id=artifact.id).SerializeToString()
            await connection.send(sent(1, message(request)))
        async with asyncio.timeout(60):
            while not _is_connected(strict_address, dropped):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while _is_connected(strict_address, dropped):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert _is_connected(address, kept)


def _is_connected(address: str, connection: RawConnection) -> bool:
    """Whether this process's service at ``address`` still has its end of the connection."""
    port = int(address.rpartition(":")[2])
    return any(
        (one.laddr.port, one.raddr.port) == (port, connection.port)
        for one in psutil.Process().net_connections("tcp")
        if one.status == psutil.CONN_ESTABLISHED
    )


def test_our_clients_ping_less_often_than_the_service_allows() -> None:
    interval = int(dict(CHANNEL_OPTIONS)["grpc.keepalive_time_ms"])
    assert interval > Settings().min_ping_interval / timedelta(milliseconds=1)


@pytest.mark.heavy
async def test_a_worker_whose_held_call_is_cut_with_its_connection_leases_the_next_job(
    service_settings: Settings,
) -> None:
    short_lived = service_settings.model_copy(
        update={
            "max_connection_age": timedelta(seconds=1),
            "max_connection_age_grace": timedelta(seconds=1),
        }
    )
    async with (
        server.running(short_lived) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client, worker = ProtocolClient(channel), ProtocolWorker(channel)
        await worker.report_catalogue()
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await worker.lease(wait=40)
        assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
        job = await client.create()
        lease = await worker.lease_one()
        assert lease.job_id == job.id
        assert await worker.complete(lease) == COMPLETED
