"""What a predecessor left with ComfyUI is not rendered again, unless it came to nothing."""

import asyncio

import aiohttp
import pytest

from comfy_worker.comfyui import ComfyBackend, Failed, Graph, Interrupted, Succeeded
from comfy_worker.simulator import Hold, Simulator
from tests.worker.comfyui.graphs import slow, text_to_image
from tests.worker.comfyui.watching import Watcher


async def submit(simulator: Simulator, prompt_id: str, graph: Graph) -> None:
    """What a predecessor did before it died."""
    body = {"prompt": graph, "prompt_id": prompt_id, "client_id": "predecessor"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{simulator.url}/prompt", json=body) as response,
    ):
        assert response.status == 200


async def held(simulator: Simulator, prompt_id: str, graph: Graph) -> Hold:
    hold = simulator.faults.hold(prompt_id, step=2)
    await submit(simulator, prompt_id, graph)
    async with asyncio.timeout(10):
        await hold.reached()
    return hold


async def test_a_running_prompt_is_adopted(backend: ComfyBackend, simulator: Simulator) -> None:
    graph = text_to_image(steps=100)
    hold = await held(simulator, "old", graph)
    watcher = Watcher()
    run = asyncio.create_task(
        backend.run("new", graph, adopt=["older", "old"], observers=watcher.observers())
    )
    async with asyncio.timeout(10):
        await watcher.until(lambda: watcher.starts == 1)
        await simulator.signals.sockets_connected(2)
        hold.release()
        outcome = await run
    assert isinstance(outcome, Succeeded)
    assert (outcome.prompt_id, outcome.adopted) == ("old", True)
    assert len(outcome.files) == 1
    assert watcher.accepted == ["old"]
    assert watcher.progress[-1].fraction == 1.0
    # What is sent to the predecessor's client id is heard.
    assert any(progress.step >= 3 for progress in watcher.progress)
    assert simulator.signals.rendered["old"] == 1
    assert simulator.signals.queued["new"] == 0


async def test_an_adopted_prompt_of_which_nothing_is_heard_is_polled(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    hold = await held(simulator, "old", slow())
    watcher = Watcher()
    run = asyncio.create_task(
        backend.run("new", slow(), adopt=["old"], observers=watcher.observers())
    )
    async with asyncio.timeout(10):
        await watcher.until(lambda: watcher.starts == 1)
        simulator.faults.silent_sockets = True
        hold.release()
        outcome = await run
    assert isinstance(outcome, Succeeded)
    assert outcome.prompt_id == "old"


async def test_a_pending_prompt_is_adopted(backend: ComfyBackend, simulator: Simulator) -> None:
    hold = await held(simulator, "somebody's", slow())
    await submit(simulator, "old", text_to_image())
    run = asyncio.create_task(backend.run("new", text_to_image(), adopt=["old"]))
    hold.release()
    async with asyncio.timeout(10):
        outcome = await run
    assert isinstance(outcome, Succeeded)
    assert outcome.prompt_id == "old"
    assert simulator.signals.queued["new"] == 0


async def test_a_finished_prompt_is_adopted(backend: ComfyBackend, simulator: Simulator) -> None:
    await submit(simulator, "old", text_to_image())
    async with asyncio.timeout(10):
        await simulator.signals.prompt_ended("old")
        outcome = await backend.run("new", text_to_image(), adopt=["old"])
    assert isinstance(outcome, Succeeded)
    assert outcome.adopted
    assert len(outcome.files) == 1
    assert simulator.signals.queued["new"] == 0


@pytest.mark.parametrize("interrupted", [True, False])
async def test_one_that_was_stopped_or_failed_is_not_adopted(
    interrupted: bool, backend: ComfyBackend, simulator: Simulator
) -> None:
    if interrupted:
        hold = await held(simulator, "old", text_to_image())
        async with aiohttp.ClientSession() as http:
            await http.post(f"{simulator.url}/interrupt", json={})
        hold.release()
    else:
        simulator.faults.fail_node("KSampler")
        await submit(simulator, "old", text_to_image())
    async with asyncio.timeout(10):
        await simulator.signals.prompt_ended("old")
        outcome = await backend.run("new", text_to_image(), adopt=["old"])
    assert isinstance(outcome, Succeeded)
    assert (outcome.prompt_id, outcome.adopted) == ("new", False)


async def test_an_adopted_prompt_that_is_stopped_by_somebody_is_rendered_anew(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    hold = await held(simulator, "old", text_to_image())
    watcher = Watcher()
    run = asyncio.create_task(
        backend.run("new", text_to_image(), adopt=["old"], observers=watcher.observers())
    )
    async with asyncio.timeout(10):
        await watcher.until(lambda: watcher.accepted == ["old"])
        async with aiohttp.ClientSession() as http:
            await http.post(f"{simulator.url}/interrupt", json={})
        hold.release()
        outcome = await run
    assert isinstance(outcome, Succeeded)
    assert (outcome.prompt_id, outcome.adopted) == ("new", False)
    assert watcher.accepted == ["old", "new"]
    fractions = [progress.fraction for progress in watcher.progress]
    assert fractions == sorted(fractions)


async def test_an_adopted_prompt_that_fails_is_the_attempts_failure(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.fail_node("VAEDecode")
    hold = await held(simulator, "old", text_to_image())
    run = asyncio.create_task(backend.run("new", text_to_image(), adopt=["old"]))
    hold.release()
    async with asyncio.timeout(10):
        outcome = await run
    assert isinstance(outcome, Failed)
    assert outcome.prompt_id == "old"
    assert simulator.signals.queued["new"] == 0


async def test_a_cancel_reaches_the_adopted_prompt(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    hold = await held(simulator, "old", slow(steps=5))
    watcher = Watcher()
    run = asyncio.create_task(
        backend.run("new", slow(), adopt=["old"], observers=watcher.observers())
    )
    async with asyncio.timeout(10):
        await watcher.until(lambda: watcher.accepted == ["old"])
        cancel = asyncio.create_task(backend.cancel("new"))
        await simulator.signals.interrupt_received()
        hold.release()
        await cancel
        assert await run == Interrupted("old", requested=True)
    assert simulator.signals.queued["new"] == 0


async def test_a_run_that_is_abandoned_leaves_its_prompt_to_be_adopted(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("first")
    graph = text_to_image()
    run = asyncio.create_task(backend.run("first", graph))
    async with asyncio.timeout(10):
        await hold.reached()
        run.cancel()
        await asyncio.wait([run])
        hold.release()
        outcome = await backend.run("second", graph, adopt=["first"])
    assert isinstance(outcome, Succeeded)
    assert outcome.prompt_id == "first"
    assert simulator.signals.rendered["first"] == 1
