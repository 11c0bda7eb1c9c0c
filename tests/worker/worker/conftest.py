"""A job_service, a simulated ComfyUI, and workers between them."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from comfy_worker.comfyui import DriverSettings
from comfy_worker.settings import Settings
from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service.client import JobServiceClient
from tests.worker.worker.lease_editor import LeaseEditor
from tests.worker.worker.running_worker import RunningWorker

StartWorker = Callable[..., RunningWorker]


@pytest.fixture
def step_seconds() -> float:
    """How long a step of the simulator takes; a test may override this fixture."""
    return 0.002


@pytest.fixture
async def simulator(step_seconds: float) -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(step_seconds=step_seconds, load_seconds=0.0)
    async with Simulator(settings) as running:
        yield running
        running.faults.release_all()


@pytest.fixture
async def jobs(service: str) -> AsyncIterator[JobServiceClient]:
    """A client of job_service."""
    async with JobServiceClient(service) as client:
        yield client


@pytest.fixture
async def start_worker(service: str, simulator: Simulator) -> AsyncIterator[StartWorker]:
    """Starts a worker of job_service on the simulator; keyword arguments are its settings.

    ``driver`` is how patient it is with its ComfyUIs.
    """
    started: list[RunningWorker] = []

    def start(driver: DriverSettings | None = None, **settings: Any) -> RunningWorker:
        given = {"job_service": service, "name": "box", "comfyui_urls": simulator.url, **settings}
        worker = RunningWorker(Settings(**given), driver)
        started.append(worker)
        return worker

    yield start
    simulator.faults.release_all()
    for worker in started:
        await worker.end()


@pytest.fixture
async def leases(service: str) -> AsyncIterator[LeaseEditor]:
    """Says what is in the leases of workers whose job_service is its address."""
    async with LeaseEditor(service).serving() as editor:
        yield editor
