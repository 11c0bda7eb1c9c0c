"""A flood of progress and previews: the worker's memory stays, and nothing comes late."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import psutil
import pytest
from generation_jobs.v1 import job_pb2

from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service.client import JobServiceClient
from tests.end_to_end.real_processes import RealProcess
from tests.worker.worker.asking import completed, ended, picture, until

STEP_SECONDS: Final = 0.02
STEPS: Final = 150
COPIES: Final = 10
FRAME_BYTES: Final = 240_000
"""At 50 steps a second: 60,000 progress messages a minute, and 12 MB of previews a second."""
FLOODS: Final = 3
MOST_GROWTH: Final = 20 * 1024 * 1024
"""Half of what one flood brings."""
LATEST_SECONDS: Final = 2.0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(step_seconds=STEP_SECONDS, load_seconds=0.0)
    async with Simulator(settings) as running:
        running.faults.progress_copies = COPIES
        running.faults.giant_frame_bytes = FRAME_BYTES
        yield running
        running.faults.release_all()


@pytest.fixture
async def worker(
    service: str, simulator: Simulator, tmp_path: Path
) -> AsyncIterator[psutil.Process]:
    """A worker in a process of its own, whose memory is nobody else's."""
    before = set(psutil.Process().children())
    async with RealProcess(
        ["comfy-worker", "run"],
        tmp_path / "worker.log",
        COMFY_WORKER_JOB_SERVICE=service,
        COMFY_WORKER_NAME="box",
        COMFY_WORKER_COMFYUI_URLS=f"gpu={simulator.url}",
    ):
        (process,) = set(psutil.Process().children()) - before
        yield process


@pytest.mark.heavy
async def test_memory_is_bounded_and_nothing_is_delayed(
    jobs: JobServiceClient, simulator: Simulator, worker: psutil.Process
) -> None:
    await completed(jobs, (await jobs.create_job(picture(steps=40))).id)
    usual = highest = worker.memory_info().rss

    for _ in range(FLOODS):
        hold = simulator.faults.hold(step=STEPS - 1)
        asked = await jobs.create_job(picture(steps=STEPS))
        async with asyncio.timeout(60):
            prompt_id = await hold.reached()
        async with asyncio.timeout(LATEST_SECONDS):
            await until(jobs, asked.id, lambda job: job.progress.step == STEPS - 2)
        highest = max(highest, worker.memory_info().rss)
        hold.release()
        async with asyncio.timeout(60):
            await simulator.signals.prompt_ended(prompt_id)
        async with asyncio.timeout(LATEST_SECONDS):
            await completed(jobs, asked.id)

    grown = max(highest, worker.memory_info().rss) - usual
    print(f"grown by {grown / 1024**2:.1f} MiB")
    assert grown < MOST_GROWTH, f"the worker has grown by {grown / 1024**2:.0f} MiB"


async def test_a_cancel_in_a_flood_is_as_quick_as_ever(
    jobs: JobServiceClient, simulator: Simulator, worker: psutil.Process
) -> None:
    asked = await jobs.create_job(picture(steps=STEPS))
    await until(jobs, asked.id, lambda job: job.progress.step >= 20)

    async with asyncio.timeout(LATEST_SECONDS):
        await jobs.cancel_job(asked.id)
        await simulator.signals.interrupt_received()
        job = await ended(jobs, asked.id)

    assert job.status == job_pb2.JOB_STATUS_CANCELLED
