"""Concurrent clients that do nothing but CreateJob: ``python -m … ADDRESS CLIENTS SECONDS``.

Prints JSON: calls, calls a second and their latency in ms.
"""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from itertools import count
from statistics import median, quantiles
from typing import Final

import grpc
from generation_jobs.v1 import generation_job_service_pb2_grpc

from tests.benchmarks.load.channels import open_channel
from tests.benchmarks.load.requests import create_request

#: Seconds after which measuring begins: connections are open and statements prepared by then.
_WARM_UP: Final = 0.5


async def main(address: str, clients: int, seconds: float) -> dict[str, float]:
    numbers = count()
    latencies: list[float] = []

    async def create(channel: grpc.aio.Channel, until: float) -> None:
        stub = generation_job_service_pb2_grpc.GenerationJobServiceStub(channel)
        while (asked := time.perf_counter()) < until:
            await stub.CreateJob(create_request(next(numbers)), timeout=30)
            latencies.append(time.perf_counter() - asked)

    async with AsyncExitStack() as stack:
        channels = [await open_channel(stack, address) for _ in range(clients)]
        await asyncio.gather(*(create(one, time.perf_counter() + _WARM_UP) for one in channels))
        latencies.clear()
        began = time.perf_counter()
        await asyncio.gather(*(create(one, began + seconds) for one in channels))
        took = time.perf_counter() - began
    return {
        "calls": len(latencies),
        "a_second": len(latencies) / took,
        "median_ms": median(latencies) * 1000,
        "p95_ms": quantiles(latencies, n=20)[-1] * 1000,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
