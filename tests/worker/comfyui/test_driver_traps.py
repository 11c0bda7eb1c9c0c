"""What ComfyUI does that a driver would not expect; see docs/comfyui-traps.md."""

import asyncio

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui import ComfyBackend, DriverSettings, Failed, FailureCode, Succeeded
from comfy_worker.comfyui.forbidden_paths import forbidden_paths
from comfy_worker.simulator import Simulator
from tests.worker.comfyui.comfy_proxy import ComfyProxy
from tests.worker.comfyui.graphs import probe, save, slow, text_to_image
from tests.worker.comfyui.watching import Watcher

MIB = 1024 * 1024


async def test_a_prompt_answered_from_the_cache_alone_reports_its_files(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    graph = text_to_image()
    first = await backend.run("p1", graph)
    second = await backend.run("p2", graph)
    assert isinstance(first, Succeeded)
    assert isinstance(second, Succeeded)
    assert second.files == first.files != ()
    assert simulator.signals.rendered == {"p1": 1}


async def test_a_prompt_run_anew_is_rendered_and_not_answered_from_the_cache(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    graph = text_to_image()
    await backend.run("p1", graph)
    assert isinstance(await backend.run("p1", graph, anew=True), Succeeded)
    assert simulator.signals.rendered == {"p1": 2}


async def test_a_prompt_run_anew_that_is_lost_on_its_way_is_not_taken_for_its_former_run(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    await proxied.run("p1", text_to_image(filename_prefix="former"))
    proxy.lost_requests = 1
    outcome = await proxied.run("p1", text_to_image(filename_prefix="anew"), anew=True)
    assert isinstance(outcome, Succeeded)
    assert [file.filename for file in outcome.files] == ["anew_00001_.png"]
    assert simulator.signals.rendered == {"p1": 2}


async def test_the_socket_is_read_on_while_an_http_answer_is_awaited(
    patient: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    # More than all buffers between the two hold: unless the driver reads on, the simulator
    # cannot deliver it, and with it nothing to anybody else.
    simulator.faults.giant_frame_bytes = 4 * MIB
    hold = simulator.faults.hold("p1", step=2)
    watcher = Watcher()
    run = asyncio.create_task(
        patient.run("p1", slow(steps=12), observers=watcher.observers(previews=True))
    )
    async with asyncio.timeout(30), aiohttp.ClientSession() as http:
        await hold.reached()
        proxy.thawed.clear()
        cancelling = asyncio.create_task(patient.cancel("p1"))
        await proxy.asked_for("GET /queue")
        hold.release()
        await simulator.signals.prompt_ended("p1")
        socket = await http.ws_connect(f"{simulator.url}/ws?clientId=bystander")
        assert (await socket.receive_json())["type"] == "status"
        await socket.close()
        proxy.thawed.set()
        await cancelling
        assert isinstance(await run, Succeeded)


async def test_while_somebody_stalls_all_sockets_prompts_are_followed_by_polling(
    proxied: ComfyBackend, simulator: Simulator
) -> None:
    watcher = Watcher()
    simulator.faults.stall_sockets()
    hold = simulator.faults.hold("p1", step=2)
    run = asyncio.create_task(proxied.run("p1", slow(), observers=watcher.observers()))
    async with asyncio.timeout(20):
        await hold.reached()
        await watcher.until(lambda: watcher.starts == 1)
        hold.release()
        assert isinstance(await run, Succeeded)
        simulator.faults.unstall_sockets()
        assert isinstance(await proxied.run("p2", slow(), observers=watcher.observers()), Succeeded)


async def test_a_prompt_whose_socket_was_found_mute_is_looked_at_more_often_than_that_took(
    proxy: ComfyProxy, simulator: Simulator
) -> None:
    settings = DriverSettings(silence=2.0, poll=0.05)
    async with ComfyBackend("gpu0", proxy.url, settings) as backend:
        assert await backend.wait_connected(10)
        watcher = Watcher()
        simulator.faults.stall_sockets()
        hold = simulator.faults.hold("p1")
        run = asyncio.create_task(backend.run("p1", slow(), observers=watcher.observers()))
        async with asyncio.timeout(20):
            await hold.reached()
            await watcher.until(lambda: watcher.starts == 1)
        async with asyncio.timeout(10 * settings.silence):
            await proxy.asked_for("GET /queue", times=proxy.requests["GET /queue"] + 11)
        hold.release()
        assert isinstance(await run, Succeeded)


async def test_nan_in_what_a_node_shows_is_no_obstacle(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.nan_in_ui = True
    outcome = await backend.run("p1", text_to_image())
    assert isinstance(outcome, Succeeded)
    assert len(outcome.files) == 1


async def test_every_prompt_is_sent_with_a_client_id_that_is_a_string(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("p1")
    run = asyncio.create_task(backend.run("p1", slow()))
    async with asyncio.timeout(10), aiohttp.ClientSession() as http:
        await hold.reached()
        async with http.get(f"{simulator.url}/queue") as response:
            ((_, _, _, extra_data, _),) = (await response.json())["queue_running"]
        assert isinstance(extra_data["client_id"], str)
        hold.release()
        await run


async def test_frames_above_four_mebibytes_do_not_end_the_session(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    simulator.faults.giant_frame_bytes = 6 * MIB
    hold = simulator.faults.hold("p1", step=2)
    watcher = Watcher()
    run = asyncio.create_task(proxied.run("p1", slow(), observers=watcher.observers(previews=True)))
    async with asyncio.timeout(30):
        await watcher.until(lambda: bool(watcher.previews))
        hold.release()
        assert isinstance(await run, Succeeded)
    assert len(watcher.previews[0].data) > 6 * MIB
    assert len(proxy.client_ids) == 1


FORBIDDEN = [
    ("LoadImage", "image", "../x.png"),
    ("LoadImage", "image", "/etc/passwd"),
    ("LoadImage", "image", "sub/../../x.png"),
    ("LoadImage", "image", "..\\x.png"),
    ("LoadImage", "image", "C:\\x.png"),
    ("LoadImage", "image", "../x.png [output]"),
    ("LoadImageMask", "image", "~/x.png"),
    ("SaveImage", "filename_prefix", "../x"),
    ("SaveImage", "filename_prefix", "/x"),
    ("LoadAudio", "audio", "../x.wav"),
    ("SomeNode", "model_path", "/x"),
    ("SomeNode", "video", "a\0b"),
]


@pytest.mark.parametrize(("node_class", "name", "value"), FORBIDDEN)
async def test_a_path_out_of_comfyuis_folders_is_refused_before_comfyui_sees_it(
    node_class: str, name: str, value: str, backend: ComfyBackend, simulator: Simulator
) -> None:
    graph = probe(odd=(node_class, {name: value}), save=save("empty"))
    outcome = await backend.run("p1", graph)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code is FailureCode.WORKFLOW_FORBIDDEN
    assert (outcome.failure.node_id, outcome.failure.node_class) == ("odd", node_class)
    assert value not in outcome.failure.message
    assert not simulator.signals.queued


@given(st.text().filter(lambda name: not any(part in name for part in ("..", "\0", ":"))))
def test_ordinary_names_and_any_prompt_text_are_let_through(name: str) -> None:
    ordinary = name.lstrip("/\\~") or "x"
    graph = probe(
        load=("LoadImage", {"image": ordinary}),
        text=("CLIPTextEncode", {"text": f"/../{name}"}),
        save=save("load", ordinary),
    )
    assert forbidden_paths(graph) == ()
    assert forbidden_paths(text_to_image(prompt=f"../{name}")) == ()
