"""Each trap can be switched on, and off again."""

import asyncio

import aiohttp
import pytest

from comfy_worker.simulator import Simulator
from tests.worker.simulator.client import Client, plain_image, text_to_image


async def test_a_lost_answer_leaves_the_prompt_queued(client: Client, simulator: Simulator) -> None:
    simulator.faults.lost_post_answers = 1
    with pytest.raises(aiohttp.ClientError):
        await client.submit(plain_image(), prompt_id="lost")
    await simulator.signals.prompt_ended("lost")

    assert (await client.history("lost"))["status"]["completed"] is True
    assert (await client.run(plain_image(2)))["status"]["completed"] is True


async def test_out_of_memory_is_reported_as_by_comfyui(
    client: Client, simulator: Simulator
) -> None:
    simulator.faults.fail_node(
        "KSampler", exception_type="torch.OutOfMemoryError", message="CUDA out of memory", step=2
    )
    entry = await client.run(text_to_image(), prompt_id="big")

    name, error = entry["status"]["messages"][-1]
    assert (name, error["exception_type"]) == ("execution_error", "torch.OutOfMemoryError")
    assert error["exception_message"].startswith("CUDA out of memory\n")
    assert simulator.signals.steps["big"] == 1
    assert (await client.run(text_to_image()))["status"]["completed"] is True


async def test_a_failure_can_be_limited_to_one_prompt_and_repeated(
    client: Client, simulator: Simulator
) -> None:
    simulator.faults.fail_node("SaveImage", prompt_id="bad", times=2)
    results = [
        (await client.run(plain_image(color), prompt_id=prompt_id))["status"]["completed"]
        for color, prompt_id in enumerate(("good", "bad", "bad", "bad"))
    ]

    assert results == [True, False, False, True]
    assert not list(simulator.faults.pending_node_faults())


async def test_ignored_interrupts_stop_nothing(client: Client, simulator: Simulator) -> None:
    simulator.faults.ignore_interrupts = True
    hold = simulator.faults.hold("stubborn", step=2)
    await client.submit(text_to_image(), prompt_id="stubborn")
    await hold.reached()
    assert await client.post("/interrupt", {"prompt_id": "stubborn"}) == 200
    hold.release()
    await simulator.signals.prompt_ended("stubborn")

    assert simulator.signals.completed["stubborn"] == 1


async def test_an_old_version_interrupts_whatever_runs(
    client: Client, simulator: Simulator
) -> None:
    simulator.faults.untargeted_interrupts = True
    hold = simulator.faults.hold("innocent", step=2)
    await client.submit(text_to_image(), prompt_id="innocent")
    await hold.reached()
    assert await client.post("/interrupt", {"prompt_id": "somebody else's"}) == 200
    await simulator.signals.prompt_ended("innocent")

    assert simulator.signals.completed["innocent"] == 0


async def test_silent_sockets_deliver_nothing_while_http_goes_on(
    client: Client, simulator: Simulator
) -> None:
    assert (await client.socket.receive_json())["type"] == "status"
    simulator.faults.silent_sockets = True
    prompt_id = await client.submit(plain_image())
    await simulator.signals.prompt_ended(prompt_id)

    with pytest.raises(TimeoutError):
        await client.socket.receive(timeout=0.05)
    assert (await client.history(prompt_id))["status"]["completed"] is True
    simulator.faults.silent_sockets = False
    assert (await client.run(plain_image(2)))["status"]["completed"] is True


async def test_releasing_all_lets_held_runs_go_on(client: Client, simulator: Simulator) -> None:
    hold = simulator.faults.hold(step=2)
    simulator.faults.hold(step=3)
    prompt_id = await client.submit(text_to_image())
    assert await hold.reached() == prompt_id
    await simulator.signals.step_reached(prompt_id, 1)
    simulator.faults.release_all()
    hold.release()

    await client.messages_until_end(prompt_id)
    assert simulator.signals.completed[prompt_id] == 1


async def test_signals_wait_for_what_has_not_happened_yet(
    client: Client, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("seen", step=2)
    queued = asyncio.create_task(simulator.signals.prompt_queued("seen"))
    started = asyncio.create_task(simulator.signals.prompt_started("seen"))
    interrupted = asyncio.create_task(simulator.signals.interrupt_received())
    await client.submit(text_to_image(), prompt_id="seen")
    await queued
    await started
    await hold.reached()
    assert not interrupted.done()
    assert await client.post("/interrupt") == 200
    await interrupted
    await simulator.signals.prompt_ended("seen")

    state = await client.get("/simulator/state")
    assert state["prompts"]["seen"] == {
        "queued": 1,
        "started": 1,
        "rendered": 1,
        "completed": 0,
        "ended": 1,
        "step": 1,
    }


async def test_cancels_by_job_are_there_only_when_switched_on(
    client: Client, simulator: Simulator
) -> None:
    assert await client.post("/api/jobs/unknown/cancel", {}) == 405
    simulator.faults.cancels_jobs = True
    assert await client.post("/api/jobs/unknown/cancel", {}) == 200
    hold = simulator.faults.hold("running", step=2)
    await client.submit(text_to_image(), prompt_id="running")
    await client.submit(text_to_image(), prompt_id="waiting")
    await hold.reached()
    for prompt_id in ("running", "waiting"):
        assert await client.post(f"/api/jobs/{prompt_id}/cancel", {}) == 200
    hold.release()
    await simulator.signals.prompt_ended("running")

    messages = [name for name, _ in (await client.history("running"))["status"]["messages"]]
    assert messages[-1] == "execution_interrupted"
    assert simulator.signals.started["waiting"] == 0
    assert (await client.get("/queue")) == {"queue_running": [], "queue_pending": []}
