"""What one replica lets callers have at once: each limit refuses what is over it, nothing else."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import grpc
import pytest
from generation_jobs.v1 import artifact_pb2, job_pb2, worker_service_pb2
from generation_jobs.v1 import generation_job_service_pb2 as pb
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from job_service.api.call_kind import SERVICES, CallKind, kind_of
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient, a_job, refused
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker

MOST: Final = 8
STREAMS: Final = 12


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(
        update={
            "max_concurrent_calls": MOST,
            "max_held_calls": MOST,
            "max_transfers": MOST,
            "max_streams_per_principal": STREAMS,
            "create_rate_per_user": 0.5,
            "create_burst_per_user": 40,
            "max_message_bytes": 6 * 1024**2,
            "max_metadata_bytes": 8 * 1024,
        }
    )


def every_method() -> Sequence[Any]:
    files = (pb.DESCRIPTOR, worker_service_pb2.DESCRIPTOR)
    return [
        method
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    ]


@pytest.mark.parametrize("method", every_method(), ids=lambda method: method.name)
def test_calls_that_wait_are_held_and_those_in_pieces_are_transfers(method: Any) -> None:
    waits = "wait" in method.input_type.fields_by_name or method.name.startswith("Watch")
    streams = method.client_streaming or method.server_streaming
    expected = CallKind.HELD if waits else CallKind.TRANSFER if streams else CallKind.SHORT
    assert kind_of(f"{SERVICES}{method.containing_service.name}/{method.name}") is expected


async def fails(call: Any) -> dict[str, Any]:
    """The details of the error that a call must end with, by their kind; and its status."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type]
    assert status is not None
    found: dict[str, Any] = {"status": error.value.code()}
    for packed in status.details:
        for kind in ("ErrorInfo", "RetryInfo", "QuotaFailure"):
            detail = getattr(error_details_pb2, kind)()
            if packed.Unpack(detail):
                found[kind] = detail
    return found


def assert_overloaded(found: dict[str, Any], kind: CallKind) -> None:
    assert found["status"] is grpc.StatusCode.UNAVAILABLE
    assert found["ErrorInfo"].reason == "OVERLOADED"
    assert found["ErrorInfo"].metadata["kind"] == kind
    assert found["RetryInfo"].retry_delay.ToTimedelta() > timedelta(0)


async def test_held_calls_have_a_budget_of_their_own(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create(checkpoint_model="nobody-has-it.safetensors")
    leasing = [asyncio.create_task(worker.lease(wait=40)) for _ in range(MOST // 2)]
    async with AsyncExitStack() as held:
        for _ in range(MOST // 2):
            await held.enter_async_context(client.watching(job.id))
        found = await fails(worker.beat())
        assert_overloaded(found, CallKind.HELD)
        assert_overloaded(await fails(anext(aiter(watch(client, job.id)))), CallKind.HELD)
        assert (await client.get(job.id)).id == job.id
        await worker.report_catalogue()
    await until_served(worker.beat)
    for one in leasing:
        one.cancel()
    await asyncio.gather(*leasing, return_exceptions=True)


async def test_short_calls_over_the_limit_are_refused_at_once_and_hold_up_no_others(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create()
    async with sql.transaction():
        await sql.execute("LOCK TABLE job_attempts, generation_jobs IN ACCESS EXCLUSIVE MODE")
        stuck = [client.stub.GetJob(pb.GetJobRequest(id=job.id), timeout=40) for _ in range(MOST)]
        assert_overloaded(await fails(client.get(job.id)), CallKind.SHORT)
        beating = asyncio.create_task(worker.beat())
        assert not any(one.done() for one in stuck)
    assert {(await one).job.id for one in stuck} == {job.id}
    await beating


async def test_uploads_that_stand_still_keep_nobody_from_creating_jobs(
    client: ProtocolClient,
) -> None:
    async with AsyncExitStack() as uploads:
        for _ in range(MOST):
            await uploads.enter_async_context(unfinished_upload(client))
        await until_refused(lambda: one_upload(client))
        assert_overloaded(await fails(one_upload(client)), CallKind.TRANSFER)
        assert (await client.create()).id
    found = await until_refused(lambda: one_upload(client), reason="INVALID_FIELDS")
    assert found["status"] is grpc.StatusCode.INVALID_ARGUMENT


async def test_one_caller_has_so_many_streams_and_no_more(client: ProtocolClient) -> None:
    job = await client.create()
    async with AsyncExitStack() as streams:
        for _ in range(MOST):
            await streams.enter_async_context(client.watching(job.id))
        for _ in range(STREAMS - MOST):
            await streams.enter_async_context(unfinished_upload(client))
        found = await until_refused(lambda: one_upload(client), reason="QUOTA_EXCEEDED")
        assert found["status"] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert found["QuotaFailure"].violations[0].subject == "principal:local/streams"
        assert found["RetryInfo"].retry_delay.ToTimedelta() > timedelta(0)
        assert (await client.get(job.id)).id == job.id
    async with client.watching(job.id):
        pass


async def test_users_who_create_too_fast_are_told_when_to_go_on(client: ProtocolClient) -> None:
    greedy, modest = str(uuid4()), str(uuid4())
    await batch(client, greedy, 39)
    found = await fails(batch(client, greedy, 2))
    assert found["status"] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert found["ErrorInfo"].reason == "QUOTA_EXCEEDED"
    assert found["QuotaFailure"].violations[0].subject == f"user:{greedy}/created_jobs"
    delay = found["RetryInfo"].retry_delay.ToTimedelta()
    assert timedelta(0) < delay <= timedelta(seconds=2)
    stored = await client.list_jobs(filter=job_pb2.JobFilter(user_id=greedy), include_total=True)
    assert stored.total == 39, "a batch is all or nothing"
    assert (await client.create(user_id=modest)).id
    await asyncio.sleep(delay.total_seconds())
    await batch(client, greedy, 2)


async def batch(client: ProtocolClient, user: str, jobs: int) -> None:
    requests = [pb.CreateJobRequest(job=a_job(user_id=user)) for _ in range(jobs)]
    await client.stub.BatchCreateJobs(pb.BatchCreateJobsRequest(requests=requests), timeout=20)


async def test_a_larger_message_is_taken_where_the_installation_says_so(
    client: ProtocolClient,
) -> None:
    error = await refused(client.create(prompt="x" * 5 * 1024**2))
    assert error.reason == "INVALID_FIELDS"
    error = await refused(client.create(prompt="x" * 7 * 1024**2))
    assert error.reason == "MESSAGE_TOO_LARGE"


async def test_too_much_metadata_is_refused_and_harms_nobody(client: ProtocolClient) -> None:
    for size in (16_000, 200_000):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.stub.GetQueueStats(
                pb.GetQueueStatsRequest(), metadata=[("x-large", "x" * size)], timeout=20
            )
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await client.create()).id


def watch(client: ProtocolClient, job_id: int) -> Any:
    return client.stub.WatchJob(pb.WatchJobRequest(id=job_id), timeout=20)


@asynccontextmanager
async def unfinished_upload(client: ProtocolClient) -> AsyncIterator[None]:
    """An UploadInput that stands still after its header."""
    call = client.stub.UploadInput(timeout=60)
    await call.write(pb.UploadInputRequest(header=pb.InputHeader(filename="a.png")))
    try:
        yield
    finally:
        call.cancel()


async def one_upload(client: ProtocolClient) -> artifact_pb2.InputAsset:
    """An UploadInput without a header, which is refused as such when it is served."""
    call = client.stub.UploadInput(iter([pb.UploadInputRequest(chunk=b"x")]), timeout=20)
    return (await call).input


async def until_refused(call: Any, reason: str = "OVERLOADED") -> dict[str, Any]:
    """Repeat a call until it is refused for this reason; what it says then."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with asyncio.timeout(0.5):
                    await call()
            except TimeoutError:
                continue
            except grpc.aio.AioRpcError as error:
                found = await fails(_again(error))
                if found["ErrorInfo"].reason == reason:
                    return found
                await asyncio.sleep(0.05)


async def _again(error: grpc.aio.AioRpcError) -> None:
    raise error


async def until_served(call: Any) -> None:
    """Repeat a call until there is room for it."""
    async with asyncio.timeout(30):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)
            else:
                return
