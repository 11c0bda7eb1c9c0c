"""Lost answers, restarts, deletions and cut connections: no prompt runs twice or is made up."""

import asyncio
import json
import struct

import aiohttp
import pytest

from comfy_worker.comfyui import (
    ComfyBackend,
    DriverSettings,
    Interrupted,
    LossReason,
    Lost,
    Succeeded,
)
from comfy_worker.simulator import Simulator, SimulatorSettings
from tests.worker.comfyui.comfy_proxy import ComfyProxy
from tests.worker.comfyui.conftest import PATIENT, SIMULATOR
from tests.worker.comfyui.graphs import slow, text_to_image
from tests.worker.comfyui.watching import Watcher


async def post(url: str, body: object) -> None:
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as response:
        assert response.status == 200


async def test_a_lost_answer_to_a_prompt_does_not_send_it_twice(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.lost_post_answers = 1
    hold = simulator.faults.hold("p1")
    run = asyncio.create_task(backend.run("p1", text_to_image()))
    async with asyncio.timeout(10):
        await hold.reached()
    hold.release()
    assert isinstance(await run, Succeeded)
    assert simulator.signals.queued["p1"] == 1


async def test_a_lost_answer_of_a_prompt_already_done_does_not_send_it_twice(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.lost_post_answers = 1
    assert isinstance(await backend.run("p1", text_to_image()), Succeeded)
    assert simulator.signals.queued["p1"] == 1


async def test_a_prompt_lost_on_its_way_is_sent_again(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    proxy.lost_requests = 1
    assert isinstance(await proxied.run("p1", text_to_image()), Succeeded)
    assert simulator.signals.queued["p1"] == 1
    assert proxy.requests["POST /prompt"] == 2


async def test_a_500_that_was_queued_nevertheless_is_not_sent_again(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    simulator.faults.misleading_500s = 1
    assert isinstance(await proxied.run("p1", text_to_image()), Succeeded)
    assert simulator.signals.queued["p1"] == 1
    assert proxy.requests["POST /prompt"] == 1


async def test_a_restart_loses_the_prompt_and_says_so() -> None:
    async with Simulator(SIMULATOR) as first:
        port = first.port
        async with ComfyBackend("gpu0", first.url, PATIENT) as backend:
            assert await backend.wait_connected(10)
            hold = first.faults.hold("p1")
            run = asyncio.create_task(backend.run("p1", slow()))
            async with asyncio.timeout(10):
                await hold.reached()
            await first.__aexit__(None, None, None)
            settings = SimulatorSettings(port=port, step_seconds=0.001, load_seconds=0.0)
            async with Simulator(settings):
                async with asyncio.timeout(20):
                    outcome = await run
                assert isinstance(outcome, Lost)
                assert outcome.reason is LossReason.RESTARTED
                assert isinstance(await backend.run("p2", text_to_image()), Succeeded)


async def test_a_prompt_deleted_from_the_queue_by_somebody_is_lost(
    backend: ComfyBackend, simulator: Simulator, proxied: ComfyBackend
) -> None:
    hold = simulator.faults.hold("first")
    first = asyncio.create_task(backend.run("first", slow()))
    async with asyncio.timeout(10):
        await hold.reached()
        second = asyncio.create_task(proxied.run("second", slow()))
        await simulator.signals.prompt_queued("second")
        await post(f"{simulator.url}/queue", {"delete": ["second"]})
        outcome = await second
    assert isinstance(outcome, Lost)
    assert outcome.reason is LossReason.VANISHED
    hold.release()
    assert isinstance(await first, Succeeded)


async def test_a_prompt_that_one_look_does_not_find_is_not_given_up(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("p1")
    run = asyncio.create_task(proxied.run("p1", slow()))
    async with asyncio.timeout(10):
        await hold.reached()
        proxy.forget_once()
        await proxy.asked_for("GET /history", times=proxy.requests["GET /history"] + 1)
        hold.release()
        assert isinstance(await run, Succeeded)


async def test_an_interrupt_by_somebody_else_is_told_from_a_failure(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("p1", step=2)
    run = asyncio.create_task(backend.run("p1", slow()))
    async with asyncio.timeout(10):
        await hold.reached()
        await post(f"{simulator.url}/interrupt", {})
        hold.release()
        assert await run == Interrupted("p1", requested=False)


async def test_nobody_there_is_lost_before_submission(impatient: DriverSettings) -> None:
    async with Simulator(SIMULATOR) as gone:
        url = gone.url
    async with ComfyBackend("gpu0", url, impatient) as backend:
        assert not backend.connected
        outcome = await backend.run("p1", text_to_image())
    assert isinstance(outcome, Lost)
    assert outcome.reason is LossReason.NOT_SUBMITTED


async def test_a_server_that_freezes_for_the_grace_period_is_unreachable(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("p1")
    run = asyncio.create_task(proxied.run("p1", slow()))
    async with asyncio.timeout(20):
        await hold.reached()
        proxy.thawed.clear()
        outcome = await run
    assert isinstance(outcome, Lost)
    assert outcome.reason is LossReason.UNREACHABLE


async def test_a_server_that_freezes_for_a_moment_loses_nothing(
    proxy: ComfyProxy, simulator: Simulator
) -> None:
    settings = DriverSettings(silence=0.1, poll=0.1)
    async with ComfyBackend("gpu0", proxy.url, settings) as backend:
        assert await backend.wait_connected(10)
        hold = simulator.faults.hold("p1")
        run = asyncio.create_task(backend.run("p1", slow()))
        async with asyncio.timeout(20):
            await hold.reached()
            proxy.thawed.clear()
            await proxy.asked_for("GET /queue")
            hold.release()
            await simulator.signals.prompt_ended("p1")
            proxy.thawed.set()
            assert isinstance(await run, Succeeded)


async def test_a_cut_socket_is_opened_under_a_fresh_id_and_the_prompt_is_followed(
    patient: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("p1", step=2)
    watcher = Watcher()
    run = asyncio.create_task(patient.run("p1", slow(steps=20), observers=watcher.observers()))
    async with asyncio.timeout(20):
        await hold.reached()
        await proxy.cut_sockets()
        await proxy.asked_for("GET /ws", times=3)
        await simulator.signals.sockets_connected(2)
        hold.release()
        assert isinstance(await run, Succeeded)
        assert isinstance(await patient.run("p2", text_to_image()), Succeeded)
    first, *later = proxy.client_ids
    assert later.count(first) == 1, "the running prompt's events are still sent to it"
    assert len(set(later)) == 2
    assert max(progress.step for progress in watcher.progress) > 2
    assert simulator.signals.queued["p1"] == 1


async def test_a_server_that_draws_its_own_prompt_ids_is_followed_under_them(
    patient: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.ignores_prompt_ids = True
    hold = simulator.faults.hold(step=3)
    watcher = Watcher()
    run = asyncio.create_task(patient.run("p1", text_to_image(), observers=watcher.observers()))
    async with asyncio.timeout(20):
        await watcher.until(lambda: bool(watcher.progress) and watcher.progress[-1].step == 2)
        hold.release()
        outcome = await run
    assert isinstance(outcome, Succeeded)
    assert outcome.prompt_id != "p1"
    assert watcher.accepted == [outcome.prompt_id]
    assert watcher.progress[-1].fraction == 1.0


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">II", 1, 1) + bytes(6 * 1024 * 1024),
        json.dumps({"type": "executed", "data": {"node": "1", "output": "x" * 6 * 1024 * 1024}}),
        '{"type": "executed", "data": {"node": "1", "output": {"values": [NaN]}}}',
        "not json",
        b"\x00",
    ],
    ids=["giant preview", "giant output", "NaN", "no JSON", "cut frame"],
)
async def test_odd_frames_do_not_end_the_session(
    frame: str | bytes, proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("p1")
    watcher = Watcher()
    run = asyncio.create_task(proxied.run("p1", slow(), observers=watcher.observers()))
    async with asyncio.timeout(20):
        await hold.reached()
        await proxy.send_to_sockets(frame)
        hold.release()
        assert isinstance(await run, Succeeded)
    assert proxied.connected
    assert len(proxy.client_ids) == 1
    assert watcher.progress[-1].fraction == 1.0
