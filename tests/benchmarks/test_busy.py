"""Whether the pair of services keeps a ComfyUI busy, and what one job waits for it."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import pytest
import pytest_asyncio
from generation_jobs.v1 import job_pb2

from comfy_worker.comfyui import ComfyBackend, Graph
from job_service.client import JobServiceClient
from tests.benchmarks.measuring import in_turn, ratio, spread
from tests.benchmarks.processes import Replica
from tests.benchmarks.report import Report
from tests.conformance.busy import PROMPTS, by_driver, model_free, straight
from tests.conformance.simulator_process import SimulatorProcess
from tests.conformance.targets import new_seed
from tests.end_to_end.installation import rest
from tests.end_to_end.real_processes import RealProcess
from tests.worker.comfyui.graphs import text_to_image

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]

ROUNDS: Final = 3
TIMES: Final = 40
STEP_SECONDS: Final = 0.02
SECTION: Final = "One ComfyUI kept busy"


@pytest.fixture
def comfyui(tmp_path: Path) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path / "output", step_seconds=STEP_SECONDS) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def jobs(
    durable_replica: Replica, comfyui: SimulatorProcess, tmp_path: Path
) -> AsyncIterator[JobServiceClient]:
    """A client of a job_service with one worker on the simulator, each a process of its own."""
    worker = RealProcess(
        ["comfy-worker", "run"],
        tmp_path / "worker.log",
        COMFY_WORKER_JOB_SERVICE=durable_replica.address,
        COMFY_WORKER_NAME="box",
        COMFY_WORKER_COMFYUI_URLS=f"gpu={comfyui.url}",
        COMFY_WORKER_LOG_LEVEL="warning",
    )
    async with worker, JobServiceClient(durable_replica.address) as client:
        await made(client, picture(64))
        yield client


def picture(side: int) -> job_pb2.GenerationJob:
    """A job of one sampler step."""
    return job_pb2.GenerationJob(
        prompt="a lighthouse at dawn",
        checkpoint_model=SimulatorProcess.checkpoint,
        width=side,
        height=side,
        sampler=job_pb2.Sampler(steps=1),
    )


def graph(side: int) -> Graph:
    """The same as a graph."""
    seed = new_seed()
    return text_to_image(
        checkpoint=SimulatorProcess.checkpoint,
        width=side,
        height=side,
        steps=1,
        seed=seed,
        filename_prefix=f"busy/{seed}",
    )


async def made(jobs: JobServiceClient, *wanted: job_pb2.GenerationJob) -> float:
    """Seconds from the creation of the first job to the completion of the last."""
    begun = time.perf_counter()
    ids = [(await jobs.create_job(job)).id for job in wanted]
    for job_id in ids:
        job = await rest(jobs, job_id)
        assert job.status == job_pb2.JOB_STATUS_COMPLETED, job
    return time.perf_counter() - begun


async def test_driver(comfyui: SimulatorProcess, report: Report) -> None:
    async with ComfyBackend("gpu", comfyui.url) as backend:
        assert await backend.wait_connected(10)
        await straight(comfyui.url, [model_free() for _ in range(10)])
        baseline, ours = await in_turn(
            ROUNDS,
            lambda: straight(comfyui.url, [model_free() for _ in range(PROMPTS)]),
            lambda: by_driver(backend, [model_free() for _ in range(PROMPTS)]),
        )
    report.add(
        SECTION,
        f"{PROMPTS} model-free 512x512 prompts by the driver",
        spread(ours, "s"),
        ratio=f"{ratio(ours, baseline):.2f} of posting them straight",
        aim="1.10",
    )


async def test_pair(jobs: JobServiceClient, comfyui: SimulatorProcess, report: Report) -> None:
    baseline, ours = await in_turn(
        ROUNDS,
        lambda: straight(comfyui.url, [graph(512) for _ in range(PROMPTS)]),
        lambda: made(jobs, *(picture(512) for _ in range(PROMPTS))),
    )
    report.add(
        SECTION,
        f"{PROMPTS} one-step 512x512 jobs through job_service and comfy_worker",
        spread(ours, "s"),
        ratio=f"{ratio(ours, baseline):.2f} of posting them straight",
        aim="1.10",
    )


async def test_latency_of_one_job(
    jobs: JobServiceClient, comfyui: SimulatorProcess, report: Report
) -> None:
    baseline, ours = await in_turn(
        TIMES,
        lambda: straight(comfyui.url, [graph(64)]),
        lambda: made(jobs, picture(64)),
    )
    added = [one - other for one, other in zip(ours, baseline, strict=True)]
    report.add(
        SECTION,
        "one 64x64 job, CreateJob called → seen COMPLETED, beyond POST → done",
        f"{median(added) * 1000:.1f} ms median, {quantiles(added, n=20)[-1] * 1000:.1f} ms p95",
        aim="15 ms median",
    )
