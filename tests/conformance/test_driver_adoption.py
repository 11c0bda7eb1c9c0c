"""What a predecessor left is taken over while it can still become a picture, and only then."""

import asyncio
from typing import Any

import aiohttp
import pytest

from comfy_worker.comfyui import ComfyBackend, Graph, Succeeded
from tests.conformance.targets import Target, new_id
from tests.worker.comfyui.watching import Watcher

SECONDS = 120


async def submit(target: Target, prompt_id: str, graph: Graph) -> None:
    """What a predecessor did before it died."""
    body = {"prompt": graph, "prompt_id": prompt_id, "client_id": f"predecessor of {prompt_id}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{target.url}/prompt", json=body) as response,
    ):
        assert response.status == 200, await response.text()


async def history(target: Target, prompt_id: str) -> Any:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{target.url}/history/{prompt_id}") as response,
    ):
        return (await response.json()).get(prompt_id)


@pytest.mark.parametrize("steps", [2, 25], ids=["soon done", "running for long"])
async def test_a_submitted_prompt_is_adopted_and_rendered_once(
    steps: int, backend: ComfyBackend, target: Target
) -> None:
    old, new = new_id(), new_id()
    graph = target.picture(old, steps=steps)
    async with asyncio.timeout(SECONDS):
        await submit(target, old, graph)
        outcome = await backend.run(new, graph, adopt=[new_id(), old])
    assert isinstance(outcome, Succeeded)
    assert (outcome.prompt_id, outcome.adopted) == (old, True)
    assert len(outcome.files) == 1
    assert await history(target, new) is None


async def test_one_that_failed_is_not_adopted(backend: ComfyBackend, target: Target) -> None:
    old, new = new_id(), new_id()
    graph = target.picture(old)
    broken: Graph = {
        **graph,
        "save": {
            "class_type": "SaveImage",
            "inputs": {"images": ["decode", 0], "filename_prefix": "../../outside"},
        },
    }
    async with asyncio.timeout(SECONDS):
        await submit(target, old, broken)
        await ended(backend, target, old)
        assert (await history(target, old))["status"]["status_str"] == "error"
        outcome = await backend.run(new, target.picture(new), adopt=[old])
    assert isinstance(outcome, Succeeded)
    assert (outcome.prompt_id, outcome.adopted) == (new, False)


async def test_one_that_was_interrupted_is_not_adopted(
    backend: ComfyBackend, neighbour: ComfyBackend, target: Target
) -> None:
    old, new = new_id(), new_id()
    watcher = Watcher()
    async with asyncio.timeout(SECONDS):
        run = asyncio.create_task(
            neighbour.run(old, target.picture(old, steps=5_000), observers=watcher.observers())
        )
        await watcher.until_step(2)
        await neighbour.cancel(old)
        await run
        outcome = await backend.run(new, target.picture(new), adopt=[old])
    assert isinstance(outcome, Succeeded)
    assert (outcome.prompt_id, outcome.adopted) == (new, False)


async def ended(backend: ComfyBackend, target: Target, prompt_id: str) -> None:
    """Wait for a prompt that is ahead in the queue: ComfyUI runs one after the other."""
    behind = new_id()
    assert isinstance(await backend.run(behind, target.picture(behind)), Succeeded)
    assert await history(target, prompt_id) is not None
