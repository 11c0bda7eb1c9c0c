"""Pictures that come over the WebSocket alone are kept, told from previews, and missed loudly."""

import asyncio
from pathlib import Path

from comfy_worker.comfyui import Cancellation, ComfyBackend, Graph, PreviewImage, Succeeded
from comfy_worker.comfyui.events import parse_binary
from comfy_worker.comfyui.sent_pictures import SentPictures
from comfy_worker.simulator import Simulator
from tests.worker.comfyui import recorded
from tests.worker.comfyui.comfy_proxy import ComfyProxy
from tests.worker.comfyui.graphs import slow
from tests.worker.comfyui.watching import Watcher

MOST_BYTES = 10**6


def sending(steps: int = 2) -> Graph:
    """A slow node, and one that sends its two pictures."""
    graph = {**slow(steps)}
    del graph["save"]
    inputs = dict(graph["empty"]["inputs"], batch_size=2)
    graph["empty"] = {"class_type": "EmptyImage", "inputs": inputs}
    graph["send"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["slow", 0]}}
    return graph


async def test_all_of_a_batch_is_kept_and_previews_are_not(
    backend: ComfyBackend, tmp_path: Path
) -> None:
    outcome = await backend.run("sent", sending(), scratch=tmp_path)
    assert isinstance(outcome, Succeeded)
    assert outcome.gap == ""
    assert [picture.node_id for picture in outcome.pictures] == ["send", "send"]
    contents = [picture.path.read_bytes() for picture in outcome.pictures]
    assert all(content.startswith(b"\x89PNG") for content in contents)
    assert len(list(tmp_path.iterdir())) == 2


async def test_without_a_folder_nothing_is_kept_and_nothing_is_missing(
    backend: ComfyBackend,
) -> None:
    outcome = await backend.run("dropped", sending())
    assert isinstance(outcome, Succeeded)
    assert (outcome.pictures, outcome.gap) == ((), "")


async def test_a_connection_lost_meanwhile_is_a_gap_that_a_second_run_fills(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator, tmp_path: Path
) -> None:
    hold = simulator.faults.hold(step=2)
    running = asyncio.create_task(proxied.run("cut", sending(), scratch=tmp_path))
    await hold.reached()
    await proxy.cut_sockets()
    hold.release()
    outcome = await running
    assert isinstance(outcome, Succeeded)
    assert "missed" in outcome.gap
    assert await proxied.wait_connected(10)
    again = await proxied.run("cut", sending(), scratch=tmp_path, anew=True)
    assert isinstance(again, Succeeded)
    assert (again.gap, len(again.pictures)) == ("", 2)


async def test_a_connection_lost_after_the_end_was_heard_is_no_gap(
    patient: ComfyBackend, proxy: ComfyProxy, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.history_delay_seconds = 1.0
    running = asyncio.create_task(patient.run("ended", sending(), scratch=tmp_path))
    async with asyncio.timeout(20):
        await proxy.asked_for("GET /history")  # which is for the end
        await proxy.cut_sockets()
        outcome = await running
    assert isinstance(outcome, Succeeded)
    assert (outcome.gap, len(outcome.pictures)) == ("", 2)


async def test_pictures_that_come_later_than_the_history_are_waited_for(
    patient: ComfyBackend, simulator: Simulator, tmp_path: Path
) -> None:
    hold = simulator.faults.hold(step=2)
    watcher = Watcher()
    running = asyncio.create_task(
        patient.run("late", sending(), observers=watcher.observers(), scratch=tmp_path)
    )
    async with asyncio.timeout(20):
        await hold.reached()
        simulator.faults.stall_sockets()
        hold.release()
        await simulator.signals.prompt_ended("late")
        # Has the run look at the history, too late to change it.
        assert await patient.cancel("late") is Cancellation.TOO_LATE
        await watcher.until_fraction(1.0)  # which only the history tells now
        simulator.faults.unstall_sockets()
        outcome = await running
    assert isinstance(outcome, Succeeded)
    assert (outcome.gap, len(outcome.pictures)) == ("", 2)


async def test_what_an_adopted_prompt_has_sent_before_is_a_gap(
    backend: ComfyBackend, tmp_path: Path
) -> None:
    graph = sending()
    await backend.run("before", graph, scratch=tmp_path)
    outcome = await backend.run("after", graph, adopt=["before"], scratch=tmp_path)
    assert isinstance(outcome, Succeeded)
    assert outcome.adopted
    assert "missed" in outcome.gap


def recorded_pictures() -> list[PreviewImage]:
    events = map(parse_binary, recorded.binary_frames("15_saveimage_websocket"))
    return [event for event in events if isinstance(event, PreviewImage)]


def test_the_recorded_pictures_are_kept(tmp_path: Path) -> None:
    graph = {"2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}}
    sent = SentPictures(graph, tmp_path, MOST_BYTES)
    assert all(sent.take(event, "2") for event in recorded_pictures())
    assert len(sent.pictures) == 2
    assert not sent.take(recorded_pictures()[0], "1")


def test_more_than_fits_is_a_gap(tmp_path: Path) -> None:
    graph = {"2": {"class_type": "SaveImageWebsocket", "inputs": {}}}
    first, second = recorded_pictures()
    sent = SentPictures(graph, tmp_path, len(first.data))
    sent.all_heard = True
    assert sent.take(first, "2")
    assert sent.gap == ""
    assert sent.take(second, "2")
    assert "more than" in sent.gap
    assert len(sent.pictures) == 1
