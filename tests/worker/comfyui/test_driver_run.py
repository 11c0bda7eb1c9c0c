"""A graph becomes files, whatever ComfyUI does on the way."""

import asyncio
import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from comfy_worker.comfyui import (
    ComfyBackend,
    Failed,
    FailureCode,
    OutputMissingError,
    OutputTooLargeError,
    Phase,
    Succeeded,
)
from comfy_worker.simulator import Simulator
from tests.worker.comfyui.comfy_proxy import ComfyProxy
from tests.worker.comfyui.graphs import CHECKPOINT, LORAS, probe, save, slow, text_to_image
from tests.worker.comfyui.watching import Watcher

LARGE = 10_000_000


async def test_a_picture_with_progress_per_step(backend: ComfyBackend, tmp_path: Path) -> None:
    watcher = Watcher()
    outcome = await backend.run("p1", text_to_image(loras=LORAS), observers=watcher.observers())
    assert isinstance(outcome, Succeeded)
    assert (outcome.prompt_id, outcome.adopted) == ("p1", False)
    (file,) = outcome.files
    assert (file.subfolder, file.filename) == ("driver-tests", "picture_00001_.png")
    download = await backend.fetch(file, tmp_path / "picture", max_bytes=LARGE)
    content = (tmp_path / "picture").read_bytes()
    assert download.size == len(content)
    assert download.sha256 == hashlib.sha256(content).digest()
    assert download.media_type == "image/png"
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (64, 96)
    assert watcher.accepted == ["p1"]
    assert watcher.starts == 1
    fractions = [progress.fraction for progress in watcher.progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {Phase.LOADING, Phase.SAMPLING} <= {progress.phase for progress in watcher.progress}
    assert backend.loaded_checkpoint == CHECKPOINT


async def test_each_step_is_reported_while_it_runs(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("p1", step=3)
    watcher = Watcher()
    run = asyncio.create_task(backend.run("p1", text_to_image(), observers=watcher.observers()))
    async with asyncio.timeout(10):
        await hold.reached()
        await watcher.until(lambda: bool(watcher.progress) and watcher.progress[-1].step == 2)
    assert (watcher.progress[-1].step, watcher.progress[-1].steps) == (2, 4)
    assert watcher.progress[-1].node_class == "KSampler"
    hold.release()
    assert isinstance(await run, Succeeded)


async def test_a_batch_gives_its_pictures_in_order(backend: ComfyBackend) -> None:
    outcome = await backend.run("p1", text_to_image(batch_size=4))
    assert isinstance(outcome, Succeeded)
    assert [file.filename for file in outcome.files] == [
        f"picture_0000{number}_.png" for number in (1, 2, 3, 4)
    ]


async def test_two_prompts_at_once_keep_their_events_apart(backend: ComfyBackend) -> None:
    first, second = Watcher(), Watcher()
    outcomes = await asyncio.gather(
        backend.run("a", text_to_image(seed=1), observers=first.observers()),
        backend.run("b", text_to_image(seed=2), observers=second.observers()),
    )
    names = []
    for outcome in outcomes:
        assert isinstance(outcome, Succeeded)
        names += [file.filename for file in outcome.files]
    assert len(set(names)) == 2
    assert first.progress[-1].fraction == second.progress[-1].fraction == 1.0
    assert (first.starts, second.starts) == (1, 1)


async def test_success_is_waited_for_until_the_history_has_it(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.history_delay_seconds = 0.3
    outcome = await backend.run("p1", text_to_image())
    assert isinstance(outcome, Succeeded)
    assert len(outcome.files) == 1


@pytest.mark.parametrize("missing", ['"execution_success"', '"node": null'])
async def test_either_of_the_last_two_events_is_enough_to_end_a_run(
    patient: ComfyBackend, proxy: ComfyProxy, simulator: Simulator, missing: str
) -> None:
    proxy.swallowed = missing
    simulator.faults.history_delay_seconds = 0.1
    async with asyncio.timeout(10):
        outcome = await patient.run("p1", text_to_image())
    assert isinstance(outcome, Succeeded)
    assert len(outcome.files) == 1


async def test_while_events_come_nothing_is_polled(
    proxy: ComfyProxy, backend: ComfyBackend
) -> None:
    async with ComfyBackend("gpu0", proxy.url) as proxied:
        assert await proxied.wait_connected(10)
        assert isinstance(await proxied.run("p1", text_to_image(steps=20)), Succeeded)
    assert proxy.requests == {"GET /ws": 1, "POST /prompt": 1, "GET /history": 1}


async def test_a_socket_that_says_nothing_is_no_obstacle(
    backend: ComfyBackend, simulator: Simulator, proxied: ComfyBackend
) -> None:
    simulator.faults.silent_sockets = True
    watcher = Watcher()
    hold = simulator.faults.hold("p1")
    run = asyncio.create_task(proxied.run("p1", text_to_image(), observers=watcher.observers()))
    async with asyncio.timeout(10):
        await hold.reached()
    hold.release()
    outcome = await run
    assert isinstance(outcome, Succeeded)
    assert len(outcome.files) == 1
    assert watcher.progress[-1].fraction == 1.0


async def test_the_same_picture_again_under_another_prefix_makes_new_files(
    backend: ComfyBackend,
) -> None:
    first = await backend.run("p1", text_to_image(filename_prefix="x/p1"))
    second = await backend.run("p2", text_to_image(filename_prefix="x/p2"))
    assert isinstance(first, Succeeded)
    assert isinstance(second, Succeeded)
    assert first.files[0].filename.startswith("p1_")
    assert second.files[0].filename.startswith("p2_")


async def test_a_cached_answer_naming_a_deleted_file_is_a_missing_output(
    backend: ComfyBackend, tmp_path: Path
) -> None:
    outcome = await backend.run("p1", text_to_image())
    assert isinstance(outcome, Succeeded)
    file = outcome.files[0]
    missing = type(file)(file.node_id, file.kind, "gone.png", file.subfolder, file.folder)
    with pytest.raises(OutputMissingError, match=r"404.*gone\.png"):
        await backend.fetch(missing, tmp_path / "x", max_bytes=LARGE)


async def test_a_file_over_the_limit_is_refused(backend: ComfyBackend, tmp_path: Path) -> None:
    outcome = await backend.run("p1", text_to_image())
    assert isinstance(outcome, Succeeded)
    with pytest.raises(OutputTooLargeError):
        await backend.fetch(outcome.files[0], tmp_path / "x", max_bytes=100)


async def test_a_missing_checkpoint_fails_by_name(backend: ComfyBackend) -> None:
    outcome = await backend.run("p1", text_to_image(checkpoint="nope.safetensors"))
    assert isinstance(outcome, Failed)
    assert outcome.failure.code is FailureCode.MODEL_NOT_FOUND
    assert "nope.safetensors" in outcome.failure.message


async def test_an_unknown_node_class_fails_by_name(backend: ComfyBackend) -> None:
    outcome = await backend.run("p1", probe(x=("NoSuchNode", {})))
    assert isinstance(outcome, Failed)
    assert outcome.failure.code is FailureCode.NODE_NOT_FOUND
    assert "NoSuchNode" in outcome.failure.message


async def test_a_graph_that_is_refused_in_part_fails_and_does_not_run(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("before")
    before = asyncio.create_task(backend.run("before", slow()))
    async with asyncio.timeout(10):
        await hold.reached()
    graph = probe(good=save("empty"), bad=("SaveImage", {"images": ["empty", 0]}))
    outcome = await backend.run("partly", graph)
    assert isinstance(outcome, Failed)
    assert (outcome.failure.node_id, outcome.failure.node_class) == ("bad", "SaveImage")
    hold.release()
    assert isinstance(await before, Succeeded)
    assert simulator.signals.started["partly"] == 0


async def test_a_node_that_raises_fails_with_its_reason(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.fail_node(
        "VAEDecode", exception_type="ValueError", message="bad latent in /srv/models/x"
    )
    outcome = await backend.run("p1", text_to_image())
    assert isinstance(outcome, Failed)
    assert outcome.failure.code is FailureCode.NODE_FAILED
    assert outcome.failure.message == "VAEDecode (decode) failed: ValueError: bad latent in <path>"


async def test_running_out_of_memory_once_is_survived(
    proxied: ComfyBackend, proxy: ComfyProxy, simulator: Simulator
) -> None:
    simulator.faults.fail_node("KSampler", exception_type="torch.OutOfMemoryError", step=2)
    watcher = Watcher()
    outcome = await proxied.run("p1", text_to_image(), observers=watcher.observers())
    assert isinstance(outcome, Succeeded)
    assert proxy.requests["POST /free"] == 1
    assert simulator.signals.started["p1"] == 2
    fractions = [progress.fraction for progress in watcher.progress]
    assert fractions == sorted(fractions)


async def test_running_out_of_memory_twice_is_its_own_failure(
    backend: ComfyBackend, simulator: Simulator
) -> None:
    simulator.faults.fail_node("KSampler", exception_type="torch.OutOfMemoryError", times=2)
    outcome = await backend.run("p1", text_to_image())
    assert isinstance(outcome, Failed)
    assert outcome.failure.code is FailureCode.OUT_OF_MEMORY
    assert simulator.signals.started["p1"] == 2
    assert isinstance(await backend.run("p2", text_to_image()), Succeeded)


async def test_an_output_node_without_files_succeeds_without_files(backend: ComfyBackend) -> None:
    graph = probe(show=("ProbeUI", {"image": ["empty", 0], "with_ui": False}))
    outcome = await backend.run("p1", graph)
    assert isinstance(outcome, Succeeded)
    assert outcome.files == ()


async def test_previews_come_where_they_are_wanted(
    backend: ComfyBackend, proxied: ComfyBackend
) -> None:
    watcher = Watcher()
    outcome = await proxied.run("p1", slow(), observers=watcher.observers(previews=True))
    assert isinstance(outcome, Succeeded)
    assert watcher.previews
    preview = watcher.previews[0]
    assert (preview.prompt_id, preview.node_id, preview.media_type) == ("p1", "slow", "image/jpeg")
    with Image.open(io.BytesIO(preview.data)) as picture:
        assert picture.format == "JPEG"


async def test_what_the_server_offers(backend: ComfyBackend) -> None:
    catalogue = await backend.catalogue()
    assert CHECKPOINT in catalogue.checkpoints
    assert LORAS[0].name in catalogue.loras
    assert "euler" in catalogue.samplers
    assert "normal" in catalogue.schedulers
    assert "KSampler" in catalogue.node_classes
    assert catalogue.max_dimension == 16384
    assert (await backend.server_info()).interrupts_by_id
