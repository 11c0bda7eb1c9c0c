"""How fast news travels: a cancel to the worker that runs the job, a job to a worker that waits."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from statistics import median, quantiles
from typing import Any, Final, TypeVar

import grpc
import pytest
import pytest_asyncio
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.benchmarks.load.requests import create_request
from tests.benchmarks.processes import Replica
from tests.benchmarks.report import Report
from tests.jobs_protocol import ProtocolClient
from tests.worker_protocol import ProtocolWorker, verdicts

pytestmark = [pytest.mark.benchmark, pytest.mark.asyncio(loop_scope="session")]

TIMES: Final = 60
SECTION: Final = "Latency on loopback"

Answer = TypeVar("Answer")


@pytest_asyncio.fixture(loop_scope="session")
async def channel(durable_replica: Replica) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(durable_replica.address) as connection:
        yield connection


@pytest_asyncio.fixture(loop_scope="session")
async def client(channel: grpc.aio.Channel) -> ProtocolClient:
    return ProtocolClient(channel)


@pytest_asyncio.fixture(loop_scope="session")
async def worker(channel: grpc.aio.Channel) -> ProtocolWorker:
    connected = ProtocolWorker(channel)
    await connected.report_catalogue()
    return connected


def add(report: Report, what: str, taken: list[float], aim: str = "") -> None:
    p95 = quantiles(taken, n=20)[-1]
    report.add(
        SECTION, what, f"{median(taken) * 1000:.1f} ms median, {p95 * 1000:.1f} ms p95", aim=aim
    )


async def cancelled_after(
    client: ProtocolClient, worker: ProtocolWorker, lease: pb.Lease, held: "asyncio.Task[Any]"
) -> float:
    """Seconds from the call of CancelJob to the answer of the held heartbeat."""
    asked = time.perf_counter()
    cancel = asyncio.create_task(client.cancel(lease.job_id))
    answer = await held
    taken = time.perf_counter() - asked
    assert verdicts(answer)[lease.lease_token] == pb.VERDICT_CANCEL
    await cancel
    await worker.release(lease, pb.RELEASE_REASON_CANCELLED)
    return taken


async def _answered(call: Awaitable[Answer]) -> tuple[Answer, float]:
    """What a call answers, and when."""
    return await call, time.perf_counter()


async def test_cancel_of_a_job_that_the_held_heartbeat_lists(
    client: ProtocolClient, worker: ProtocolWorker, report: Report
) -> None:
    taken = []
    for number in range(TIMES):
        await client.send(create_request(number))
        lease = await worker.lease_one()
        held = asyncio.create_task(worker.beat(lease, wait=10))
        # Goes behind the heartbeat on the same connection, and takes as long.
        await client.get(lease.job_id)
        taken.append(await cancelled_after(client, worker, lease, held))
    add(report, "CancelJob called → held Heartbeat answers CANCEL", taken, "50 ms median")


async def test_cancel_of_a_job_leased_while_the_heartbeat_was_held(
    client: ProtocolClient, worker: ProtocolWorker, report: Report
) -> None:
    taken = []
    for number in range(TIMES):
        held = asyncio.create_task(worker.beat(wait=10))
        await client.send(create_request(number))
        lease = await worker.lease_one()
        taken.append(await cancelled_after(client, worker, lease, held))
    add(report, "- of a job leased while the heartbeat was held", taken, "50 ms median")


async def test_wake_up_of_a_waiting_worker(
    client: ProtocolClient, worker: ProtocolWorker, report: Report
) -> None:
    leased_after, created_after = [], []
    for number in range(TIMES):
        waiting = asyncio.create_task(worker.lease_one())
        # Goes behind LeaseJobs on the same connection: it has found nothing and waits.
        await client.list_jobs(page_size=1)
        asked = time.perf_counter()
        leased, created = await asyncio.gather(
            _answered(waiting), _answered(client.send(create_request(number)))
        )
        leased_after.append(leased[1] - asked)
        created_after.append(created[1] - asked)
        await worker.complete(leased[0])
    add(report, "CreateJob called → waiting LeaseJobs answers", leased_after)
    add(report, "- CreateJob itself answers", created_after)
