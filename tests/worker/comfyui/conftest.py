"""A simulated ComfyUI and the driver on it."""

from collections.abc import AsyncIterator

import pytest

from comfy_worker.comfyui import ComfyBackend, DriverSettings, Timeouts
from comfy_worker.simulator import Simulator, SimulatorSettings
from tests.worker.comfyui.comfy_proxy import ComfyProxy

PATIENT = DriverSettings(silence=30.0, poll=0.05, cancel_patience=10.0)
"""Long silences, so that a test waiting for a lost event fails by its own timeout."""

SIMULATOR = SimulatorSettings(
    step_seconds=0.001, load_seconds=0.0, probe_nodes=True, preview_method="none"
)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SIMULATOR) as running:
        yield running
        running.faults.release_all()


@pytest.fixture
async def backend(simulator: Simulator) -> AsyncIterator[ComfyBackend]:
    async with ComfyBackend("gpu0", simulator.url, PATIENT) as opened:
        assert await opened.wait_connected(10)
        yield opened


@pytest.fixture
async def proxy(simulator: Simulator) -> AsyncIterator[ComfyProxy]:
    async with ComfyProxy(simulator.url).serving() as serving:
        yield serving


@pytest.fixture
def impatient() -> DriverSettings:
    """Everything that is a matter of waiting happens soon."""
    return DriverSettings(
        silence=0.2,
        poll=0.05,
        preview_interval=0.0,
        socket_patience=0.2,
        submit_grace=0.5,
        unreachable_grace=0.5,
        cancel_patience=0.5,
        timeouts=Timeouts(read=0.5, submit=2.0),
    )


@pytest.fixture
async def patient(proxy: ComfyProxy) -> AsyncIterator[ComfyBackend]:
    """The driver on the proxied simulator, waiting for events rather than polling."""
    async with ComfyBackend("gpu0", proxy.url, PATIENT) as opened:
        assert await opened.wait_connected(10)
        yield opened


@pytest.fixture
async def proxied(proxy: ComfyProxy, impatient: DriverSettings) -> AsyncIterator[ComfyBackend]:
    """The driver on the proxied simulator."""
    async with ComfyBackend("gpu0", proxy.url, impatient) as opened:
        assert await opened.wait_connected(10)
        yield opened
