"""A whole installation of real processes: job_service, workers, simulated ComfyUIs between them."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from generation_jobs.v1 import job_pb2

from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service.client import JobServiceClient
from tests.end_to_end.real_processes import RealProcess, free_address, serving

CHECKPOINT = SimulatorSettings().checkpoints[0]


class Installation:
    """One job_service process, and what the tests put around it."""

    def __init__(self, stack: AsyncExitStack, folder: Path, **environment: str) -> None:
        self.address = free_address()
        self._stack = stack
        self._folder = folder
        self.service = RealProcess(
            ["job-service", "serve"],
            folder / "job_service.log",
            JOB_SERVICE_LISTEN=self.address,
            JOB_SERVICE_DATA_DIR=str(folder / "data"),
            JOB_SERVICE_KEEP_ALIVE="1",
            **environment,
        )

    async def start(self) -> JobServiceClient:
        await serving(self._stack, self.service, self.address)
        return await self._stack.enter_async_context(JobServiceClient(self.address))

    async def simulator(self, step_seconds: float = 0.02) -> Simulator:
        settings = SimulatorSettings(step_seconds=step_seconds, load_seconds=0.0)
        return await self._stack.enter_async_context(Simulator(settings))

    async def worker(self, name: str, *simulators: Simulator, **environment: str) -> RealProcess:
        urls = ",".join(f"gpu{n}={one.url}" for n, one in enumerate(simulators))
        return await self._stack.enter_async_context(
            RealProcess(
                ["comfy-worker", "run"],
                self._folder / f"{name}.log",
                COMFY_WORKER_JOB_SERVICE=self.address,
                COMFY_WORKER_NAME=name,
                COMFY_WORKER_COMFYUI_URLS=urls,
                COMFY_WORKER_GRACE="1",
                **environment,
            )
        )


async def submit(client: JobServiceClient, *, steps: int = 10, **fields: Any) -> int:
    """Create a small job; its id."""
    job = job_pb2.GenerationJob(
        prompt="a lighthouse in a storm",
        width=64,
        height=64,
        sampler=job_pb2.Sampler(steps=steps, seed=1),
        **{"checkpoint_model": CHECKPOINT, **fields},
    )
    return (await client.create_job(job)).id


async def rest(client: JobServiceClient, job_id: int) -> job_pb2.GenerationJob:
    """The job once it rests."""
    job = job_pb2.GenerationJob()
    async with asyncio.timeout(60):
        async for event in client.watch(job_id):
            if event.HasField("job"):
                job = event.job
    return job
