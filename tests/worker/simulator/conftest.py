"""A simulator that takes no time, and a client for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_worker.simulator import Simulator, SimulatorSettings
from tests.worker.simulator.client import Client


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(
        time_scale=0,
        output_directory=tmp_path / "output",
        input_directory=tmp_path / "input",
        probe_nodes=True,
    )
    async with Simulator(settings) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Client]:
    async with Client(simulator.url) as connected:
        yield connected
