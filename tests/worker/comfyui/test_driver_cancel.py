"""A cancel stops its own prompt wherever it is, says what it verified, and hits nobody else."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from comfy_worker.comfyui import (
    Cancellation,
    ComfyBackend,
    DriverSettings,
    Interrupted,
    Outcome,
    Succeeded,
)
from comfy_worker.simulator import Hold, Simulator
from tests.worker.comfyui.comfy_proxy import ComfyProxy
from tests.worker.comfyui.graphs import slow, text_to_image


@pytest.fixture(params=[False, True], ids=["by queue and interrupt", "by job"])
def cancels_jobs(request: pytest.FixtureRequest, simulator: Simulator) -> bool:
    """Whether ComfyUI cancels a prompt by its id, wherever it is."""
    simulator.faults.cancels_jobs = request.param
    return simulator.faults.cancels_jobs


@pytest.fixture
async def running(
    backend: ComfyBackend, simulator: Simulator
) -> AsyncIterator[tuple[asyncio.Task[Outcome], Hold]]:
    """The prompt "running", held before its second step."""
    hold = simulator.faults.hold("running", step=2)
    run = asyncio.create_task(backend.run("running", slow(steps=4)))
    async with asyncio.timeout(10):
        await hold.reached()
        yield run, hold
        hold.release()
        await run


Running = tuple[asyncio.Task[Outcome], Hold]


@pytest.mark.usefixtures("cancels_jobs")
async def test_a_pending_prompt_is_removed_and_never_runs(
    backend: ComfyBackend, simulator: Simulator, running: Running
) -> None:
    pending = asyncio.create_task(backend.run("pending", slow()))
    await simulator.signals.prompt_queued("pending")
    assert await backend.cancel("pending") is Cancellation.REMOVED
    assert await pending == Interrupted("pending", requested=True)
    run, hold = running
    hold.release()
    assert isinstance(await run, Succeeded)
    assert simulator.signals.started["pending"] == 0
    assert simulator.signals.interrupts == 0


@pytest.mark.usefixtures("cancels_jobs")
async def test_a_running_prompt_is_interrupted_and_its_neighbour_is_not(
    backend: ComfyBackend, simulator: Simulator, running: Running
) -> None:
    run, hold = running
    neighbour = asyncio.create_task(backend.run("neighbour", slow()))
    await simulator.signals.prompt_queued("neighbour")
    cancel = asyncio.create_task(backend.cancel("running"))
    await simulator.signals.interrupt_received()
    hold.release()
    assert await cancel is Cancellation.INTERRUPTED
    assert await run == Interrupted("running", requested=True)
    assert isinstance(await neighbour, Succeeded)


async def test_a_cancel_before_the_prompt_is_sent_keeps_it_from_being_sent(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    proxy.lost_requests = 10**6
    run = asyncio.create_task(proxied.run("p1", slow()))
    async with asyncio.timeout(10):
        await proxy.asked_for("POST /prompt")
        assert await proxied.cancel("p1") is Cancellation.NOT_FOUND
        assert await run == Interrupted("p1", requested=True)
    assert simulator.signals.queued["p1"] == 0


@pytest.mark.usefixtures("cancels_jobs")
async def test_a_prompt_that_is_done_is_too_late_to_cancel(backend: ComfyBackend) -> None:
    assert isinstance(await backend.run("p1", text_to_image()), Succeeded)
    assert await backend.cancel("p1") is Cancellation.TOO_LATE


@pytest.mark.usefixtures("cancels_jobs")
async def test_an_unknown_prompt_is_not_found_and_nobody_is_interrupted(
    backend: ComfyBackend, simulator: Simulator, running: Running
) -> None:
    assert await backend.cancel("unknown") is Cancellation.NOT_FOUND
    assert simulator.signals.interrupts == 0
    run, hold = running
    hold.release()
    assert isinstance(await run, Succeeded)


@pytest.mark.usefixtures("cancels_jobs")
async def test_a_prompt_sent_twice_is_removed_twice(
    backend: ComfyBackend, simulator: Simulator, running: Running
) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(2):
            body = {"prompt": slow(), "prompt_id": "twice", "client_id": "somebody"}
            async with http.post(f"{simulator.url}/prompt", json=body) as response:
                assert response.status == 200
    assert await backend.cancel("twice") is Cancellation.REMOVED
    run, hold = running
    hold.release()
    assert isinstance(await run, Succeeded)
    assert simulator.signals.started["twice"] == 0


@pytest.mark.usefixtures("cancels_jobs")
async def test_a_node_that_ignores_interrupts_is_reported_and_may_still_succeed(
    simulator: Simulator, impatient: DriverSettings
) -> None:
    simulator.faults.ignore_interrupts = True
    async with ComfyBackend("gpu0", simulator.url, impatient) as backend:
        hold = simulator.faults.hold("p1", step=2)
        run = asyncio.create_task(backend.run("p1", slow()))
        async with asyncio.timeout(10):
            await hold.reached()
            assert await backend.cancel("p1") is Cancellation.STILL_RUNNING
            hold.release()
            assert isinstance(await run, Succeeded)


async def test_an_interrupt_that_comes_late_does_not_hit_the_neighbour(
    patient: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    on_its_way = proxy.delayed["POST /interrupt"] = asyncio.Event()
    async with asyncio.timeout(20):
        run, neighbour, hold = await run_with_neighbour(patient, simulator, steps=2)
        held = simulator.faults.hold("neighbour", step=2)
        cancel = asyncio.create_task(patient.cancel("p1"))
        await proxy.asked_for("POST /interrupt")
        hold.release()
        await held.reached()
        on_its_way.set()
        await simulator.signals.interrupt_received()
        held.release()
        assert await cancel is Cancellation.TOO_LATE
        assert isinstance(await run, Succeeded)
        assert isinstance(await neighbour, Succeeded)


async def run_with_neighbour(
    backend: ComfyBackend, simulator: Simulator, *, steps: int
) -> tuple[asyncio.Task[Outcome], asyncio.Task[Outcome], Hold]:
    """A text-to-image run held before its second step, and another one waiting behind."""
    hold = simulator.faults.hold("p1", step=2)
    run = asyncio.create_task(backend.run("p1", text_to_image(steps=steps)))
    await hold.reached()
    neighbour = asyncio.create_task(backend.run("neighbour", slow()))
    await simulator.signals.prompt_queued("neighbour")
    return run, neighbour, hold


async def test_an_old_server_is_not_asked_to_interrupt_when_it_could_hit_the_neighbour(
    proxied: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.become("0.3.50")
    async with asyncio.timeout(20):
        run, neighbour, hold = await run_with_neighbour(proxied, simulator, steps=2)
        assert await proxied.cancel("p1") is Cancellation.STILL_RUNNING
        assert simulator.signals.interrupts == 0
        hold.release()
        assert isinstance(await run, Succeeded)
        assert isinstance(await neighbour, Succeeded)


async def test_an_old_server_interrupts_a_prompt_with_steps_ahead_of_it(
    proxied: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.become("0.3.50")
    async with asyncio.timeout(20):
        run, neighbour, hold = await run_with_neighbour(proxied, simulator, steps=100)
        cancel = asyncio.create_task(proxied.cancel("p1"))
        await simulator.signals.interrupt_received()
        hold.release()
        assert await cancel is Cancellation.INTERRUPTED
        assert await run == Interrupted("p1", requested=True)
        assert isinstance(await neighbour, Succeeded)


async def test_an_old_server_interrupts_a_prompt_that_is_alone(
    proxied: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.version = "unknown"
    simulator.faults.untargeted_interrupts = True
    hold = simulator.faults.hold("p1", step=2)
    async with asyncio.timeout(20):
        run = asyncio.create_task(proxied.run("p1", slow()))
        await hold.reached()
        cancel = asyncio.create_task(proxied.cancel("p1"))
        await simulator.signals.interrupt_received()
        hold.release()
        assert await cancel is Cancellation.INTERRUPTED
        assert await run == Interrupted("p1", requested=True)


async def test_where_comfyui_cancels_by_job_nothing_else_is_asked_of_it(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    simulator.faults.cancels_jobs = True
    # What an interrupt would hit is anybody's.
    simulator.faults.untargeted_interrupts = True
    simulator.faults.version = "unknown"
    async with asyncio.timeout(20):
        run, neighbour, hold = await run_with_neighbour(proxied, simulator, steps=2)
        pending = asyncio.create_task(proxied.run("pending", slow()))
        await simulator.signals.prompt_queued("pending")
        assert await proxied.cancel("pending") is Cancellation.REMOVED
        assert await pending == Interrupted("pending", requested=True)
        cancel = asyncio.create_task(proxied.cancel("p1"))
        await simulator.signals.interrupt_received()
        hold.release()
        assert await cancel is Cancellation.INTERRUPTED
        assert await run == Interrupted("p1", requested=True)
        assert isinstance(await neighbour, Succeeded)
    assert not {"POST /queue", "POST /interrupt"} & set(proxy.requests)
