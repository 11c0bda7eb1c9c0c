"""Graphs become pictures, or failures that say why."""

import asyncio
import io
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from comfy_worker.comfyui import (
    ComfyBackend,
    Failed,
    FailureCode,
    Graph,
    OutputFile,
    Phase,
    Succeeded,
)
from tests.conformance.targets import Target, new_id, new_seed
from tests.worker.comfyui.watching import Watcher

SECONDS = 120
LARGE = 50_000_000


async def made(backend: ComfyBackend, graph: Graph, watcher: Watcher | None = None) -> Succeeded:
    """The outcome of a graph that must succeed."""
    observers = watcher.observers() if watcher is not None else None
    async with asyncio.timeout(SECONDS):
        outcome = await backend.run(new_id(), graph, observers=observers)
    assert isinstance(outcome, Succeeded), outcome
    return outcome


async def fetched(backend: ComfyBackend, file: OutputFile, folder: Path) -> Image.Image:
    path = folder / new_id()
    download = await backend.fetch(file, path, max_bytes=LARGE)
    content = path.read_bytes()
    assert download.size == len(content)
    return Image.open(io.BytesIO(content)).convert("RGB")


async def test_text_to_image_with_a_lora(
    backend: ComfyBackend, target: Target, tmp_path: Path
) -> None:
    if target.lora is None:
        pytest.skip("this ComfyUI has no LoRA")
    seed = new_seed()
    watcher = Watcher()
    patched = await made(
        backend, target.picture(new_id(), lora_strength=1.0, seed=seed, steps=4), watcher
    )
    plain = await made(backend, target.picture(new_id(), seed=seed, steps=4))

    with_lora = await fetched(backend, patched.files[0], tmp_path)
    without = await fetched(backend, plain.files[0], tmp_path)
    assert with_lora.size == without.size == (64, 64)
    assert with_lora.tobytes() != without.tobytes()
    fractions = [progress.fraction for progress in watcher.progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert watcher.starts == 1
    steps = [p.step for p in watcher.progress if p.phase is Phase.SAMPLING and p.steps == 4]
    assert steps == sorted(steps)
    assert steps[-1] >= 1
    assert backend.loaded_checkpoint == target.checkpoint


async def test_a_batch_of_four(backend: ComfyBackend, target: Target, tmp_path: Path) -> None:
    outcome = await made(backend, target.picture(new_id(), batch_size=4))

    names = [file.filename for file in outcome.files]
    assert len(names) == 4
    assert names == sorted(set(names))
    pictures = {(await fetched(backend, file, tmp_path)).tobytes() for file in outcome.files}
    assert len(pictures) == 4


async def test_previews(backend: ComfyBackend, target: Target) -> None:
    if target.server is None and (await backend.server_info()).version < "0.8":
        pytest.skip("this version sends previews only where it was started with --preview-method")
    prompt_id = new_id()
    watcher = Watcher()
    async with asyncio.timeout(SECONDS):
        outcome = await backend.run(
            prompt_id,
            target.picture(prompt_id, steps=8),
            observers=watcher.observers(previews=True),
        )
    assert isinstance(outcome, Succeeded)
    assert watcher.previews
    for preview in watcher.previews:
        assert preview.prompt_id in {prompt_id, None}
        with Image.open(io.BytesIO(preview.data)) as image:
            image.load()


async def refused(backend: ComfyBackend, graph: Graph) -> Failed:
    async with asyncio.timeout(SECONDS):
        outcome = await backend.run(new_id(), graph)
    assert isinstance(outcome, Failed), outcome
    assert "Traceback" not in outcome.failure.message
    return outcome


async def test_validation_errors_say_which_input(backend: ComfyBackend, target: Target) -> None:
    missing = await refused(
        backend, {**target.picture(new_id()), **bad_checkpoint("no such model")}
    )
    assert missing.failure.code is FailureCode.MODEL_NOT_FOUND
    assert "no such model" in missing.failure.message

    wrong_steps = await refused(backend, target.picture(new_id(), steps=0))
    assert wrong_steps.failure.code is FailureCode.INVALID_WORKFLOW
    assert wrong_steps.failure.node_id == "sampler"
    assert [error.input_name for error in wrong_steps.failure.inputs] == ["steps"]

    unknown = await refused(backend, {"x": {"class_type": "NoSuchNode", "inputs": {}}})
    assert unknown.failure.code is FailureCode.NODE_NOT_FOUND

    graph = target.picture(new_id())
    no_output = await refused(backend, {k: v for k, v in graph.items() if k != "save"})
    assert no_output.failure.code is FailureCode.INVALID_WORKFLOW

    cycle: Graph = {
        node: {"class_type": "ImageInvert", "inputs": {"image": [other, 0]}}
        for node, other in (("a", "b"), ("b", "a"))
    }
    cycle = {**cycle, "save": save("a")}
    assert (await refused(backend, cycle)).failure.code is FailureCode.INVALID_WORKFLOW


async def test_a_graph_with_one_bad_output_among_good_ones_does_not_run_in_part(
    backend: ComfyBackend, target: Target
) -> None:
    graph = {
        **target.picture(new_id()),
        "bad": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0]}},
    }
    outcome = await refused(backend, graph)
    assert outcome.failure.node_id == "bad"


async def test_a_node_that_raises_is_named(backend: ComfyBackend, target: Target) -> None:
    name = await uploaded(target.url, b"\x89PNG\r\n\x1a\n" + bytes(64))
    graph = {
        "load": {"class_type": "LoadImage", "inputs": {"image": name}},
        "save": save("load"),
    }
    outcome = await refused(backend, graph)
    assert outcome.failure.code is FailureCode.NODE_FAILED
    assert (outcome.failure.node_id, outcome.failure.node_class) == ("load", "LoadImage")
    assert outcome.failure.exception_type
    assert await made(backend, target.picture(new_id()))


async def test_what_is_cached_is_answered_from_the_cache(
    backend: ComfyBackend, target: Target, tmp_path: Path
) -> None:
    graph = target.picture("cached", seed=new_seed(), steps=4)
    first = await made(backend, graph)
    again = Watcher()
    second = await made(backend, graph, again)
    assert second.files == first.files
    assert not any(progress.step for progress in again.progress)
    assert again.progress[-1].fraction == 1.0

    prefix = f"conformance/{new_id()}"
    saved_anew = {**graph, "save": save("decode", prefix)}
    third = await made(backend, saved_anew, again)
    assert third.files[0].filename != first.files[0].filename
    assert not any(progress.step for progress in again.progress)
    one = await fetched(backend, first.files[0], tmp_path)
    other = await fetched(backend, third.files[0], tmp_path)
    assert one.tobytes() == other.tobytes()


async def test_two_clients_at_once(
    backend: ComfyBackend, neighbour: ComfyBackend, target: Target
) -> None:
    ids = [new_id() for _ in range(6)]
    watchers = [Watcher() for _ in ids]
    async with asyncio.timeout(SECONDS):
        outcomes = await asyncio.gather(
            *(
                client.run(one, target.picture(one, steps=3), observers=watcher.observers())
                for one, watcher, client in zip(
                    ids, watchers, [backend, neighbour] * 3, strict=True
                )
            )
        )
    names = []
    for outcome in outcomes:
        assert isinstance(outcome, Succeeded)
        names += [file.filename for file in outcome.files]
    assert [name.rpartition("_0")[0] for name in names] == ids
    for watcher in watchers:
        assert watcher.starts == 1
        fractions = [progress.fraction for progress in watcher.progress]
        assert fractions == sorted(fractions)
        assert watcher.progress[-1].fraction == 1.0


async def test_the_catalogue_names_what_is_there(backend: ComfyBackend, target: Target) -> None:
    catalogue = await backend.catalogue()
    assert target.checkpoint in catalogue.checkpoints
    assert target.lora is None or target.lora in catalogue.loras
    assert {"euler", "dpmpp_2m"} <= set(catalogue.samplers)
    assert {"normal", "karras"} <= set(catalogue.schedulers)
    assert {"KSampler", "SaveImage"} <= set(catalogue.node_classes)
    assert catalogue.max_dimension == 16384


def bad_checkpoint(name: str) -> Graph:
    return {"checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}}


def save(source: str, prefix: str = "conformance/saved") -> dict[str, Any]:
    inputs = {"images": [source, 0], "filename_prefix": prefix}
    return {"class_type": "SaveImage", "inputs": inputs}


async def uploaded(url: str, content: bytes) -> str:
    """The name of a file put into ComfyUI's input directory."""
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("image", content, filename=f"{new_id()}.png", content_type="image/png")
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/upload/image", data=form) as response,
    ):
        assert response.status == 200
        name: str = (await response.json())["name"]
        return name
