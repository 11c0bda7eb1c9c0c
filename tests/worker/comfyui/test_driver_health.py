"""A ComfyUI that does not answer is found out soon, asked no more, and found again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from comfy_worker.comfyui import (
    ComfyBackend,
    DriverSettings,
    Failed,
    FailureCode,
    LossReason,
    Lost,
    Succeeded,
)
from comfy_worker.simulator import Simulator
from tests.worker.comfyui.graphs import slow, text_to_image


@pytest.fixture
async def watched(simulator: Simulator, impatient: DriverSettings) -> AsyncIterator[ComfyBackend]:
    async with ComfyBackend("gpu0", simulator.url, impatient) as opened:
        assert await opened.wait_available(10)
        yield opened


@pytest.mark.heavy
async def test_a_frozen_comfyui_is_not_available_until_it_answers_again(
    watched: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.freeze()
    async with asyncio.timeout(20):
        outcome = await watched.run("p1", text_to_image())
        assert isinstance(outcome, Lost)
        assert outcome.reason is LossReason.NOT_SUBMITTED
        await watched.wait_unavailable()
        assert watched.connected
        simulator.faults.thaw()
        assert await watched.wait_available()
        assert isinstance(await watched.run("p2", text_to_image()), Succeeded)


@pytest.mark.heavy
async def test_while_it_is_frozen_calls_fail_at_once(
    watched: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.freeze()
    async with asyncio.timeout(20):
        await watched.run("p1", text_to_image())
        await watched.wait_unavailable()
    clock = asyncio.get_running_loop().time
    begun = clock()
    outcome = await watched.run("p2", text_to_image())
    assert isinstance(outcome, Lost)
    # The grace period for a prompt not taken yet, and no call's timeout on top of it.
    assert clock() - begun < 1.5


async def test_one_that_answers_500_is_asked_again_and_stays_available(
    simulator: Simulator, impatient: DriverSettings
) -> None:
    # Eight tries take their time on a busy machine: the prompt must not be given up meanwhile.
    patient = replace(impatient, unreachable_grace=20.0)
    async with ComfyBackend("gpu0", simulator.url, patient) as backend, asyncio.timeout(30):
        assert await backend.wait_available(10)
        hold = simulator.faults.hold("p1")
        run = asyncio.create_task(backend.run("p1", slow()))
        await hold.reached()
        simulator.faults.failing_requests = 8
        hold.release()
        assert isinstance(await run, Succeeded)
        assert backend.available


async def test_a_device_fault_counts_until_comfyui_is_restarted(
    watched: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.fail_node(
        "KSampler", exception_type="torch.AcceleratorError", message="CUDA error: unspecified"
    )
    async with asyncio.timeout(20):
        outcome = await watched.run("p1", text_to_image())
        assert isinstance(outcome, Failed)
        assert outcome.failure.code is FailureCode.DEVICE_FAULT
        assert not watched.available
        await simulator.kill()
        await simulator.restart()
        assert await watched.wait_available()
        assert isinstance(await watched.run("p2", text_to_image()), Succeeded)
