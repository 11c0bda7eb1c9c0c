"""Create, lease and complete jobs through gRPC: ``python -m … ADDRESS CLIENTS SECONDS BATCH``.

Unary CreateJob by each client (BATCH 1) or BatchCreateJobs of BATCH jobs, workers that lease up to
64 jobs a call, unary CompleteJob. All clients and workers are in this one process. There are no
artifacts: what those cost is their bytes. Prints JSON: jobs done a second, or that the service does
not serve BatchCreateJobs.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from itertools import count
from typing import Final

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import generation_job_service_pb2_grpc, worker_service_pb2

from tests.benchmarks.load.backlog import Backlog
from tests.benchmarks.load.channels import open_channel
from tests.benchmarks.load.requests import create_request
from tests.worker_protocol import ProtocolWorker

_WORKERS: Final = 2
_LEASED_AT_ONCE: Final = 64


async def main(address: str, clients: int, seconds: float, batch: int) -> dict[str, float]:
    numbers = count()
    async with AsyncExitStack() as stack:
        creating = [await open_channel(stack, address) for _ in range(clients)]
        workers = [
            ProtocolWorker(await open_channel(stack, address), f"bench-{n}", slots=_LEASED_AT_ONCE)
            for n in range(_WORKERS)
        ]
        for worker in workers:
            await worker.report_catalogue()
        if batch > 1 and not await _serves_batches(creating[0]):
            return {"unserved": 1}
        backlog = Backlog(seconds)

        async def create(channel: grpc.aio.Channel) -> None:
            stub = generation_job_service_pb2_grpc.GenerationJobServiceStub(channel)
            while await backlog.room_for(batch):
                requests = [create_request(next(numbers)) for _ in range(batch)]
                if batch == 1:
                    await stub.CreateJob(requests[0], timeout=30)
                else:
                    await stub.BatchCreateJobs(
                        pb.BatchCreateJobsRequest(requests=requests), timeout=30
                    )

        async def work(worker: ProtocolWorker) -> None:
            async def complete(lease: worker_service_pb2.Lease) -> None:
                await worker.complete(lease)
                await backlog.done()

            while True:
                leases = await worker.lease(_LEASED_AT_ONCE)
                await asyncio.gather(*(complete(lease) for lease in leases))

        working = [asyncio.create_task(work(worker)) for worker in workers]
        await asyncio.gather(*(create(channel) for channel in creating))
        measured = await backlog.drained()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
    return measured


async def _serves_batches(channel: grpc.aio.Channel) -> bool:
    """Whether BatchCreateJobs is there: an empty batch is refused for being empty."""
    stub = generation_job_service_pb2_grpc.GenerationJobServiceStub(channel)
    try:
        await stub.BatchCreateJobs(pb.BatchCreateJobsRequest(), timeout=30)
    except grpc.aio.AioRpcError as error:
        return error.code() is not grpc.StatusCode.UNIMPLEMENTED
    return True


if __name__ == "__main__":
    _address, _clients, _seconds, _batch = sys.argv[1:]
    print(json.dumps(asyncio.run(main(_address, int(_clients), float(_seconds), int(_batch)))))
