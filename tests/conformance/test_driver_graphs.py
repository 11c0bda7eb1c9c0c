"""Inputs go in and outputs of every kind come out, of a genuine ComfyUI as of the simulator."""

import asyncio
import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_worker.comfyui import (
    ComfyBackend,
    Failed,
    FailureCode,
    Graph,
    Outcome,
    Succeeded,
    parse_graph,
)
from comfy_worker.media import measure, media_type_of
from tests.conformance.targets import Target, new_id, new_seed

SECONDS = 120
LARGE = 50_000_000


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def batch(count: int) -> dict[str, Any]:
    """Pictures no run has made before."""
    return node("EmptyImage", width=64, height=48, batch_size=count, color=new_seed() % 2**24)


async def outcome_of(backend: ComfyBackend, graph: Graph, **options: Any) -> Outcome:
    async with asyncio.timeout(SECONDS):
        return await backend.run(new_id(), graph, **options)


async def made(backend: ComfyBackend, graph: Graph, **options: Any) -> Succeeded:
    """The outcome of a graph that must succeed."""
    outcome = await outcome_of(backend, graph, **options)
    assert isinstance(outcome, Succeeded), outcome
    return outcome


async def content_of(backend: ComfyBackend, outcome: Succeeded, folder: Path) -> bytes:
    """The bytes of the one file of an outcome."""
    (file,) = outcome.files
    path = folder / new_id()
    await backend.fetch(file, path, max_bytes=LARGE)
    return path.read_bytes()


async def test_an_uploaded_picture_is_loaded_changed_and_saved(
    backend: ComfyBackend, tmp_path: Path
) -> None:
    given = tmp_path / "given.png"
    Image.new("RGB", (64, 48), (250, 30, 60)).save(given)
    name = f"{new_id()}.png"
    value = await backend.uploads.put(name, given)
    assert value == backend.uploads.find(name) == f"generation-jobs/{name}"
    graph = {
        "load": node("LoadImage", image=value),
        "invert": node("ImageInvert", image=["load", 0]),
        "save": node("SaveImage", images=["invert", 0], filename_prefix=f"uploads/{new_id()}"),
    }
    content = await content_of(backend, await made(backend, graph), tmp_path)
    with Image.open(io.BytesIO(content)) as image:
        pixel = image.convert("RGB").getpixel((5, 5))
    # ComfyUI counts in fractions, and cuts them off.
    assert isinstance(pixel, tuple)
    assert all(abs(a - b) <= 1 for a, b in zip(pixel, (5, 225, 195), strict=True)), pixel


async def test_another_content_under_a_name_gets_a_name_of_its_own(
    backend: ComfyBackend, tmp_path: Path
) -> None:
    name = f"{new_id()}.png"
    values = []
    for color in ("red", "blue", "red"):
        Image.new("RGB", (8, 8), color).save(tmp_path / "given.png")
        values.append(await backend.uploads.put(name, tmp_path / "given.png"))
    assert values[0] == values[2] != values[1]


async def test_a_file_that_is_not_there_is_refused_by_input(backend: ComfyBackend) -> None:
    graph = {
        "load": node("LoadImage", image=f"generation-jobs/{new_id()}.png"),
        "save": node("SaveImage", images=["load", 0], filename_prefix="never"),
    }
    outcome = await outcome_of(backend, graph)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code is FailureCode.INVALID_WORKFLOW
    (wrong,) = outcome.failure.inputs
    assert (wrong.node_id, wrong.input_name) == ("load", "image")


async def test_pictures_that_are_only_sent_are_kept(backend: ComfyBackend, tmp_path: Path) -> None:
    graph = {"pictures": batch(3), "send": node("SaveImageWebsocket", images=["pictures", 0])}
    outcome = await made(backend, graph, scratch=tmp_path)
    assert outcome.gap == ""
    assert [picture.node_id for picture in outcome.pictures] == ["send"] * 3
    for picture in outcome.pictures:
        with Image.open(picture.path) as image:
            assert (image.format, image.size) == ("PNG", (64, 48))


async def test_a_text_comes_out_of_the_history(backend: ComfyBackend) -> None:
    text = f"ünï ✓ {new_id()}"
    outcome = await made(backend, {"show": node("PreviewAny", source=text)})
    assert [(each.node_id, each.text) for each in outcome.texts] == [("show", text)]


async def test_an_animation_is_known_with_its_length(
    backend: ComfyBackend, target: Target, tmp_path: Path
) -> None:
    graph = dict(target.picture(new_id(), batch_size=3))
    inputs = {"images": ["decode", 0], "filename_prefix": f"moving/{new_id()}", "fps": 4.0}
    graph["save"] = node("SaveAnimatedWEBP", **inputs, lossless=True, quality=80, method="fastest")
    content = await content_of(backend, await made(backend, graph), tmp_path)
    path = tmp_path / "animation.webp"
    path.write_bytes(content)
    assert media_type_of(content[:512], "animation.webp") == "image/webp"
    with path.open("rb") as animation:
        assert measure(animation, "image/webp").duration == timedelta(seconds=0.75)


async def test_a_seed_of_64_bits_reaches_the_picture(
    backend: ComfyBackend, target: Target, tmp_path: Path
) -> None:
    graph = dict(target.picture(new_id()))
    sampler = dict(graph["sampler"]["inputs"], seed=2**64 - 1, cfg=5.50)
    graph["sampler"] = node("KSampler", **sampler)
    content = await content_of(backend, await made(backend, graph), tmp_path)
    with Image.open(io.BytesIO(content)) as image:
        prompt = image.info["prompt"]
    assert parse_graph(prompt)["sampler"]["inputs"]["seed"] == 2**64 - 1


async def test_a_second_run_under_an_id_makes_its_files_anew(
    backend: ComfyBackend, tmp_path: Path
) -> None:
    graph = {
        "pictures": batch(1),
        "save": node("SaveImage", images=["pictures", 0], filename_prefix=f"anew/{new_id()}"),
    }
    prompt_id = new_id()
    first = await backend.run(prompt_id, graph)
    second = await backend.run(prompt_id, graph, anew=True)
    assert isinstance(first, Succeeded)
    assert isinstance(second, Succeeded)
    assert first.prompt_id == second.prompt_id == prompt_id
    assert first.files != second.files
    assert replace(first.files[0], filename="") == replace(second.files[0], filename="")


@pytest.mark.parametrize("nearly", ["eulr", "Euler"])
async def test_a_refused_value_comes_with_one_that_is_offered(
    nearly: str, backend: ComfyBackend, target: Target
) -> None:
    outcome = await outcome_of(backend, target.picture(new_id(), sampler=nearly))
    assert isinstance(outcome, Failed)
    (wrong,) = outcome.failure.inputs
    assert wrong.suggestions[0] == "euler"
    assert "did you mean 'euler'" in wrong.message
