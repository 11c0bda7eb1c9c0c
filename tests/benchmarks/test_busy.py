"""Whether the pair of services keeps a ComfyUI busy, and what one job waits for it."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import pytest
import pytest_asyncio

from comfy_worker.comfyui import ComfyBackend
from job_service.client import JobServiceClient
from tests.benchmarks.measuring import in_turn, spread
from tests.benchmarks.processes import Replica
from tests.benchmarks.report import Report
from tests.conformance.busy import (
    PROMPTS,
    Comparison,
    by_driver,
    by_pair,
    compare,
    model_free,
    straight,
)
from tests.conformance.simulator_process import SimulatorProcess
from tests.end_to_end.real_processes import RealProcess

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

ROUNDS: Final = 3
TIMES: Final = 60
RENDER_SECONDS: Final = 0.1
#: Until a service that has started knows that it has no other replicas to tell what it does.
SETTLING_SECONDS: Final = 6.0
SECTION: Final = "One ComfyUI kept busy"
NOTE: Final = (
    "The same graphs on both sides, 512x512 and model-free, posted straight or brought by jobs. "
    f"Rendered: each waits {RENDER_SECONDS * 1000:.0f} ms beside, as for a GPU, so that this "
    "machine's processors are not what decides. Not rendered, they are: that is the worst case. "
    "Ratios are of the quickest rounds. Straight, the pictures are only made; the pair fetches, "
    "thumbnails and stores them as well. Many jobs are created by one call and followed by one."
)


@pytest.fixture
def comfyui(tmp_path: Path) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path / "output", probe_nodes=True) as running:
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
        await by_pair(client, [model_free(64)])
        yield client


def add(report: Report, what: str, compared: Comparison) -> None:
    if SECTION not in report.notes:
        report.note(SECTION, NOTE)
    report.add(
        SECTION,
        f"{PROMPTS} prompts {what}",
        spread(compared.ours, "s"),
        ratio=f"{compared.ratio:.2f} of posting them straight",
        aim="1.10",
    )


@pytest.mark.parametrize("seconds", [RENDER_SECONDS, 0.0], ids=["rendered", "not rendered"])
async def test_driver(
    seconds: float, comfyui: SimulatorProcess, report: Report, request: pytest.FixtureRequest
) -> None:
    async with ComfyBackend("gpu", comfyui.url) as backend:
        assert await backend.wait_connected(10)
        await straight(comfyui.url, [model_free() for _ in range(10)])
        compared = await compare(
            lambda: straight(comfyui.url, [model_free(seconds=seconds) for _ in range(PROMPTS)]),
            lambda: by_driver(backend, [model_free(seconds=seconds) for _ in range(PROMPTS)]),
            rounds=ROUNDS,
        )
    add(report, f"by the driver, {request.node.callspec.id}", compared)


@pytest.mark.parametrize("seconds", [RENDER_SECONDS, 0.0], ids=["rendered", "not rendered"])
async def test_pair(
    seconds: float,
    jobs: JobServiceClient,
    comfyui: SimulatorProcess,
    report: Report,
    request: pytest.FixtureRequest,
) -> None:
    compared = await compare(
        lambda: straight(comfyui.url, [model_free(seconds=seconds) for _ in range(PROMPTS)]),
        lambda: by_pair(jobs, [model_free(seconds=seconds) for _ in range(PROMPTS)]),
        rounds=ROUNDS,
    )
    add(report, f"through job_service and comfy_worker, {request.node.callspec.id}", compared)


async def test_latency_of_one_job(
    jobs: JobServiceClient, comfyui: SimulatorProcess, report: Report
) -> None:
    """From the call of CreateJob until a watcher sees COMPLETED: outcome and files are stored."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < SETTLING_SECONDS:
        await by_pair(jobs, [model_free(64)])
    baseline, ours = await in_turn(
        TIMES,
        lambda: straight(comfyui.url, [model_free(64)]),
        lambda: by_pair(jobs, [model_free(64)]),
    )
    added = [one - other for one, other in zip(ours, baseline, strict=True)]
    report.add(
        SECTION,
        "one 64x64 job, CreateJob called → seen COMPLETED, beyond POST → done",
        f"{median(added) * 1000:.1f} ms median, {quantiles(added, n=20)[-1] * 1000:.1f} ms p95,"
        f" {min(added) * 1000:.1f} ms least",
        aim="15 ms median",
    )
