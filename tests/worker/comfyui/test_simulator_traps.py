"""The simulator shows the traps the driver is tested with, as a bare client meets them."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from comfy_worker.simulator import Simulator, SimulatorSettings
from tests.worker.simulator.client import Client, images, plain_image, text_to_image

BARE = SimulatorSettings(time_scale=0)


@pytest.fixture
async def simulator() -> Simulator:
    return Simulator(BARE)


async def test_an_old_version_says_so_and_draws_its_own_prompt_ids(simulator: Simulator) -> None:
    async with simulator, Client(simulator.url) as client:
        simulator.faults.become("0.3.40")
        stats = await client.get("/system_stats")
        assert stats["system"]["comfyui_version"] == "0.3.40"
        assert await client.submit(plain_image(), prompt_id="mine") != "mine"
        assert simulator.faults.untargeted_interrupts

        simulator.faults.become("0.3.57")
        assert await client.submit(plain_image(1), prompt_id="mine") == "mine"
        assert not simulator.faults.untargeted_interrupts


async def test_a_500_can_be_true_or_misleading(simulator: Simulator) -> None:
    async with simulator, Client(simulator.url) as client:
        simulator.faults.failing_requests = 1
        assert await client.status("/queue") == 500
        assert await client.status("/queue") == 200
        simulator.faults.misleading_500s = 1
        body = {"prompt": plain_image(), "prompt_id": "queued"}
        assert await client.post("/prompt", body) == 500
        await simulator.signals.prompt_ended("queued")
        assert simulator.signals.completed["queued"] == 1


async def test_an_id_sent_twice_runs_twice_and_has_one_entry(simulator: Simulator) -> None:
    async with simulator, Client(simulator.url) as client:
        for color in (1, 2):
            assert await client.submit(plain_image(color), prompt_id="twice") == "twice"
        await simulator.signals.prompt_ended("twice", times=2)
        assert list(await client.get("/history")) == ["twice"]


async def test_what_nodes_show_can_hold_a_nan_and_be_huge(simulator: Simulator) -> None:
    async with simulator, Client(simulator.url) as client:
        simulator.faults.nan_in_ui = True
        simulator.faults.giant_frame_bytes = 5_000_000
        prompt_id = await client.submit(plain_image())
        messages = await client.messages_until_end(prompt_id)
        (executed,) = (each for each in messages if each["type"] == "executed")
        assert len(json.dumps(executed)) > 5_000_000
        async with client.http.get(f"/history/{prompt_id}") as response:
            text = await response.text()
        assert "NaN" in text
        assert len(text) < 10_000


async def test_previews_can_be_huge_and_progress_manifold(simulator: Simulator) -> None:
    async with simulator, Client(simulator.url) as client:
        simulator.faults.giant_frame_bytes = 5_000_000
        simulator.faults.progress_copies = 3
        extra = {"preview_method": "latent2rgb"}
        prompt_id = await client.submit(text_to_image(steps=2), extra_data=extra)
        messages = await client.messages_until_end(prompt_id)
        frames = [each for each in messages if isinstance(each, bytes)]
        assert [len(frame) > 5_000_000 for frame in frames] == [True, True]
        steps = [each for each in messages if isinstance(each, dict) and each["type"] == "progress"]
        assert len(steps) == 6


async def test_stalled_sockets_deliver_late_and_lose_nothing(simulator: Simulator) -> None:
    async with simulator, Client(simulator.url) as client:
        assert (await client.socket.receive_json())["type"] == "status"
        simulator.faults.stall_sockets()
        prompt_id = await client.submit(plain_image())
        await simulator.signals.prompt_ended(prompt_id)
        assert (await client.history(prompt_id))["status"]["completed"] is True
        waiting = asyncio.create_task(client.messages_until_end(prompt_id))
        assert await client.status("/queue") == 200
        assert not waiting.done()
        simulator.faults.unstall_sockets()
        assert (await waiting)[-1]["type"] == "executing"


async def test_a_frozen_server_takes_connections_and_answers_when_thawed(
    simulator: Simulator,
) -> None:
    async with simulator, Client(simulator.url) as client:
        simulator.faults.freeze()
        asked = asyncio.create_task(client.status("/queue"))
        short = aiohttp.ClientTimeout(total=0.2, sock_connect=0.1)
        with pytest.raises(TimeoutError):
            await client.http.get("/prompt", timeout=short)
        assert not asked.done()
        simulator.faults.thaw()
        assert await asked == 200


async def test_a_kill_cuts_the_sockets_and_keeps_the_files(tmp_path: Path) -> None:
    settings = SimulatorSettings(time_scale=0, output_directory=tmp_path)
    async with Simulator(settings) as simulator:
        url = simulator.url
        async with Client(url) as client:
            entry = await client.run(plain_image(), prompt_id="before")
            hold = simulator.faults.hold("running", step=2)
            await client.submit(text_to_image(), prompt_id="running")
            await hold.reached()
            await simulator.kill()
            async with asyncio.timeout(10):
                async for _ in client.socket:
                    pass
            assert client.socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
        await simulator.restart()
        assert simulator.url == url
        async with Client(url) as client:
            assert await client.get("/history") == {}
            assert (await client.get("/queue"))["queue_running"] == []
            assert await client.file(images(entry)[0])
            simulator.faults.files_are_gone = True
            async with client.http.get("/view", params=images(entry)[0]) as response:
                assert response.status == 404
