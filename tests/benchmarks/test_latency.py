"""How fast news travels: a cancel to the worker that runs the job, a job to a worker that waits.

Within one replica, and from one replica to another.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, TypeVar

import grpc
import pytest
import pytest_asyncio
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.benchmarks.load.requests import create_request
from tests.benchmarks.processes import Replica, replica_on
from tests.benchmarks.report import Report
from tests.jobs_protocol import COMPLETED, RUNNING, ProtocolClient
from tests.worker_protocol import ProtocolWorker, verdicts

pytestmark = [pytest.mark.benchmark, pytest.mark.asyncio(loop_scope="session")]

TIMES: Final = 60
SECTION: Final = "Latency on loopback"
BETWEEN: Final = "Latency between two replicas"

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


@pytest_asyncio.fixture(loop_scope="session")
async def elsewhere(durable_replica: Replica, tmp_path: Path) -> AsyncIterator[ProtocolClient]:
    """A client of a second replica on the same database."""
    async with (
        replica_on(durable_replica.database_url, "second", tmp_path) as second,
        grpc.aio.insecure_channel(second.address) as connection,
    ):
        yield ProtocolClient(connection)


def add(
    report: Report, what: str, taken: list[float], aim: str = "", section: str = SECTION
) -> None:
    p95 = quantiles(taken, n=20)[-1]
    report.add(
        section, what, f"{median(taken) * 1000:.1f} ms median, {p95 * 1000:.1f} ms p95", aim=aim
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


async def cancels_of_listed_jobs(
    client: ProtocolClient, worker: ProtocolWorker, cancelling: ProtocolClient
) -> list[float]:
    """How long cancels take to the held heartbeat that lists the job."""
    taken = []
    for number in range(TIMES):
        await client.send(create_request(number))
        lease = await worker.lease_one()
        held = asyncio.create_task(worker.beat(lease, wait=10))
        # Goes behind the heartbeat on the same connection, and takes as long.
        await client.get(lease.job_id)
        taken.append(await cancelled_after(cancelling, worker, lease, held))
    return taken


async def wake_ups(
    client: ProtocolClient, worker: ProtocolWorker, creating: ProtocolClient
) -> tuple[list[float], list[float]]:
    """How long it takes from CreateJob to the lease that waits for it, and to its own answer."""
    leased_after, created_after = [], []
    for number in range(TIMES):
        waiting = asyncio.create_task(worker.lease_one())
        # Goes behind LeaseJobs on the same connection: it has found nothing and waits.
        await client.list_jobs(page_size=1)
        asked = time.perf_counter()
        leased, created = await asyncio.gather(
            _answered(waiting), _answered(creating.send(create_request(number)))
        )
        leased_after.append(leased[1] - asked)
        created_after.append(created[1] - asked)
        await worker.complete(leased[0])
    return leased_after, created_after


async def test_cancel_of_a_job_that_the_held_heartbeat_lists(
    client: ProtocolClient, worker: ProtocolWorker, report: Report
) -> None:
    taken = await cancels_of_listed_jobs(client, worker, client)
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
    leased_after, created_after = await wake_ups(client, worker, client)
    add(report, "CreateJob called → waiting LeaseJobs answers", leased_after)
    add(report, "- CreateJob itself answers", created_after)


async def test_cancel_at_one_replica_of_a_job_whose_heartbeat_another_holds(
    client: ProtocolClient, worker: ProtocolWorker, elsewhere: ProtocolClient, report: Report
) -> None:
    taken = await cancels_of_listed_jobs(client, worker, elsewhere)
    what = "CancelJob called at A → Heartbeat held at B answers CANCEL"
    add(report, what, taken, "50 ms median", BETWEEN)


async def test_wake_up_of_a_worker_that_waits_at_another_replica(
    client: ProtocolClient, worker: ProtocolWorker, elsewhere: ProtocolClient, report: Report
) -> None:
    leased_after, created_after = await wake_ups(client, worker, elsewhere)
    add(report, "CreateJob called at A → LeaseJobs held at B answers", leased_after, "", BETWEEN)
    add(report, "- CreateJob itself answers", created_after, "", BETWEEN)


async def test_progress_and_end_seen_at_another_replica(
    client: ProtocolClient, worker: ProtocolWorker, elsewhere: ProtocolClient, report: Report
) -> None:
    progress_after, end_after = [], []
    for number in range(TIMES):
        job = await client.send(create_request(number))
        async with elsewhere.watching(job.id) as watch:
            lease = await worker.lease_one()
            await worker.progress(lease, 0.25)
            await watch.until(RUNNING)
            await asyncio.sleep(0.3)  # progress goes between replicas ten times a second
            asked = time.perf_counter()
            await worker.progress(lease, 0.5)
            while watch.job.progress.fraction < 0.5:
                await watch.next_job()
            progress_after.append(time.perf_counter() - asked)
            asked = time.perf_counter()
            await worker.complete(lease)
            await watch.until(COMPLETED)
            end_after.append(time.perf_counter() - asked)
    add(report, "ReportProgress at A → WatchJob at B shows it", progress_after, "", BETWEEN)
    add(report, "CompleteJob at A → WatchJob at B shows it", end_after, "", BETWEEN)
