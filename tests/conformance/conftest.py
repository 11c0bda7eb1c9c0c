"""The targets: the simulator, a genuine ComfyUI, and whatever COMFYUI_URL names."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from comfy_worker.comfyui import ComfyBackend, DriverSettings
from job_service.client import JobServiceClient
from tests.conformance.genuine import (
    CHECKPOINT,
    DEFAULT_CACHE_DIRECTORY,
    LORA,
    GenuineServer,
    install,
)
from tests.conformance.simulator_process import SimulatorProcess
from tests.conformance.targets import Target
from tests.end_to_end.installation import Installation
from tests.end_to_end.real_processes import RealProcess

_GIVEN_URL = os.environ.get("COMFYUI_URL", "")
SETTINGS = DriverSettings(preview_interval=0.0)


@pytest.fixture(scope="session")
def genuine_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenuineServer]:
    """A genuine ComfyUI; the first run on a machine downloads torch."""
    cache = Path(os.environ.get("CONFORMANCE_CACHE_DIR", DEFAULT_CACHE_DIRECTORY))
    with GenuineServer(install(cache), tmp_path_factory.mktemp("comfyui")) as server:
        yield server


@pytest.fixture(scope="session")
def simulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """A simulator in a process of its own."""
    with SimulatorProcess(tmp_path_factory.mktemp("simulator")) as server:
        yield server


def _targets() -> list[Any]:
    genuine = [pytest.mark.conformance, pytest.mark.timeout(1800)]
    given = [pytest.param("COMFYUI_URL", marks=pytest.mark.conformance)]
    return [
        "simulator",
        pytest.param("genuine", marks=genuine),
        *(given if _GIVEN_URL else []),
    ]


@pytest.fixture(scope="session", params=_targets())
def target(request: pytest.FixtureRequest) -> Target:
    """Each of the three in turn; the last one only where the environment names it."""
    if request.param == "simulator":
        simulator: SimulatorProcess = request.getfixturevalue("simulator_process")
        return Target(simulator.url, simulator.checkpoint, simulator.lora, simulator)
    if request.param == "genuine":
        genuine: GenuineServer = request.getfixturevalue("genuine_server")
        return Target(genuine.url, CHECKPOINT, LORA, genuine)
    return asyncio.run(_given(_GIVEN_URL))


async def _given(url: str) -> Target:
    """A ComfyUI of somebody's own, with the first models it offers or those the variables name."""
    async with ComfyBackend("given", url) as backend:
        catalogue = await backend.catalogue()
    checkpoint = os.environ.get("COMFYUI_CHECKPOINT", next(iter(catalogue.checkpoints), None))
    if checkpoint is None:
        pytest.skip(f"{url} has no checkpoint")
    lora = os.environ.get("COMFYUI_LORA", next(iter(catalogue.loras), None))
    return Target(url, checkpoint, lora, server=None)


@pytest.fixture
async def backend(target: Target) -> AsyncIterator[ComfyBackend]:
    """The driver on the target."""
    async with ComfyBackend("target", target.url, SETTINGS) as opened:
        assert await opened.wait_connected(10)
        yield opened


@pytest.fixture
async def neighbour(target: Target) -> AsyncIterator[ComfyBackend]:
    """Another client of the same target."""
    async with ComfyBackend("neighbour", target.url, SETTINGS) as opened:
        assert await opened.wait_connected(10)
        yield opened


@pytest.fixture
async def jobs(
    target: Target, tmp_path: Path, database_url: str
) -> AsyncIterator[JobServiceClient]:
    """A client of a job_service whose one worker drives the target."""
    async with AsyncExitStack() as stack:
        here = Installation(stack, tmp_path, JOB_SERVICE_DATABASE_URL=database_url)
        client = await here.start()
        worker = RealProcess(
            ["comfy-worker", "run"],
            tmp_path / "worker.log",
            COMFY_WORKER_JOB_SERVICE=here.address,
            COMFY_WORKER_NAME="box",
            COMFY_WORKER_COMFYUI_URLS=f"gpu={target.url}",
            COMFY_WORKER_LOG_LEVEL="warning",
        )
        await stack.enter_async_context(worker)
        yield client
