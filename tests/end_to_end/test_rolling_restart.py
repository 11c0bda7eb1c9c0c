"""Services and workers are restarted one after the other while clients go on as ever."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import generation_job_service_pb2_grpc, job_pb2

from job_service.client import JobServiceClient
from tests.end_to_end.installation import Installation, rest, submit
from tests.end_to_end.real_processes import RealProcess, until_serving_again

#: Jobs that are waited for at any time.
CLIENTS = 6
#: Jobs that must have come to rest between two restarts.
BETWEEN = 6


class Load:
    """Clients that create jobs and follow each to its end, until told to stop.

    ``seen`` counts the statuses that a client without any retries gets meanwhile.
    """

    def __init__(self, client: JobServiceClient, target: str) -> None:
        self._client = client
        self._target = target
        self._stop = asyncio.Event()
        self.jobs: list[job_pb2.GenerationJob] = []
        self.seen: Counter[grpc.StatusCode] = Counter()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._work(number))
            group.create_task(self._list())
            group.create_task(self._probe())

    async def more(self, count: int) -> None:
        """Wait until so many more jobs have come to rest."""
        enough = len(self.jobs) + count
        async with asyncio.timeout(120):
            while True:
                if len(self.jobs) >= enough:
                    return
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Create no more jobs."""
        self._stop.set()

    async def _work(self, number: int) -> None:
        while not self._stop.is_set():
            job_id = await submit(self._client, labels={"client": str(number)})
            self.jobs.append(await rest(self._client, job_id))

    async def _list(self) -> None:
        while not self._stop.is_set():
            assert len([job async for job in self._client.list_jobs(limit=5)]) <= 5
            await asyncio.sleep(0.05)

    async def _probe(self) -> None:
        """Call without retries: what a client sees that has none."""
        async with grpc.aio.insecure_channel(self._target) as channel:
            stub = generation_job_service_pb2_grpc.GenerationJobServiceStub(channel)
            while not self._stop.is_set():
                try:
                    await stub.GetQueueStats(pb.GetQueueStatsRequest(), timeout=30)
                    self.seen[grpc.StatusCode.OK] += 1
                except grpc.aio.AioRpcError as error:
                    self.seen[error.code()] += 1
                await asyncio.sleep(0.01)


async def restart(process: RealProcess) -> None:
    """End a process in good order, and start it again."""
    assert await process.end(signal.SIGTERM) == 0
    process.start()


@pytest.mark.heavy
@pytest.mark.timeout(400)
async def test_nobody_notices_and_nothing_is_lost_or_rendered_twice(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    replicas = [
        Installation(stack, tmp_path, JOB_SERVICE_DATABASE_URL=database_url) for _ in range(2)
    ]
    for replica in replicas:
        await replica.start()
    simulators = [await replica.simulator(step_seconds=0.01) for replica in replicas]
    workers = [
        await replica.worker(f"box-{number}", simulator)
        for number, (replica, simulator) in enumerate(zip(replicas, simulators, strict=True))
    ]
    target = "ipv4:" + ",".join(replica.address for replica in replicas)
    client = await stack.enter_async_context(JobServiceClient(target, retry_for=60))
    load = Load(client, target)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.more(BETWEEN)
        for replica in replicas:
            await restart(replica.service)
            await until_serving_again(replica.address)
            await load.more(BETWEEN)
        for worker in workers:
            await restart(worker)
            await load.more(BETWEEN)
        load.stop()

    assert {job.status for job in load.jobs} == {job_pb2.JOB_STATUS_COMPLETED}
    assert len({job.id for job in load.jobs}) == len(load.jobs)
    stored = await client.stub.ListJobs(pb.ListJobsRequest(include_total=True, page_size=1))
    assert stored.total == len(load.jobs), "one job for each call that was answered"
    rendered = [count for one in simulators for count in one.signals.rendered.values()]
    assert sum(rendered) == len(load.jobs)
    assert {job.attempts_charged for job in load.jobs} == {0}
    assert set(load.seen) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert load.seen[grpc.StatusCode.OK]
