"""Work stops when nobody waits for it any more."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from tests.jobs_protocol import ProtocolClient
from tests.service_fixture import Sql

_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'job_service'"
    " AND datname = current_database() AND wait_event_type = 'Lock'"
)


async def settled(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


READS: dict[str, Callable[[ProtocolClient, int], Any]] = {
    "GetJob": lambda c, n: c.stub.GetJob(pb.GetJobRequest(id=n), timeout=0.5),
    "ListJobs": lambda c, _: c.stub.ListJobs(pb.ListJobsRequest(include_total=True), timeout=0.5),
    "GetJobStats": lambda c, _: c.stub.GetJobStats(pb.GetJobStatsRequest(), timeout=0.5),
    "GetQueueStats": lambda c, _: c.stub.GetQueueStats(pb.GetQueueStatsRequest(), timeout=0.5),
    "CancelJob": lambda c, n: c.stub.CancelJob(pb.CancelJobRequest(id=n), timeout=0.5),
    "WatchJob": lambda c, n: anext(aiter(c.stub.WatchJob(pb.WatchJobRequest(id=n), timeout=0.5))),
}


@pytest.mark.parametrize("rpc", READS)
async def test_a_call_that_runs_into_its_deadline_leaves_no_statement_and_no_task(
    client: ProtocolClient, sql: Sql, rpc: str
) -> None:
    job = await client.create()

    async def waiting() -> int:
        row = await (await sql.execute(_WAITING)).fetchone()
        assert row is not None
        return int(row[0])

    async def nobody_waits() -> bool:
        return await waiting() == 0

    await asyncio.sleep(0)
    tasks = _tasks()
    async with sql.transaction():
        await sql.execute("LOCK TABLE generation_jobs IN ACCESS EXCLUSIVE MODE")
        calls = [READS[rpc](client, job.id) for _ in range(5)]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await call
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # the upkeep loop may wait for the lock, for ever on: it is no call's
        await settled(lambda: _at_most(waiting, 2))
    await settled(nobody_waits)
    await settled(lambda: _no_more_than(tasks))
    assert (await client.get(job.id)).status == job_pb2.JOB_STATUS_PENDING


async def _at_most(waiting: Callable[[], Awaitable[int]], most: int) -> bool:
    return await waiting() <= most


async def _no_more_than(before: Counter[str]) -> bool:
    return _tasks() <= before


def _tasks() -> Counter[str]:
    """How many tasks there are of each coroutine."""
    return Counter(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
