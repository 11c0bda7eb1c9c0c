"""The driver keeps a ComfyUI busy: hardly slower than posting everything to it at once."""

import asyncio
from statistics import median

import pytest

from comfy_worker.comfyui import ComfyBackend
from tests.conformance.busy import PROMPTS, by_driver, model_free, straight
from tests.conformance.targets import Target

ROUNDS = 3
SECONDS = 300


@pytest.mark.conformance
async def test_many_prompts_take_hardly_longer_than_posted_straight(
    backend: ComfyBackend, target: Target
) -> None:
    ratios = []
    async with asyncio.timeout(SECONDS):
        await straight(target.url, [model_free() for _ in range(10)])
        for _ in range(ROUNDS):
            baseline = await straight(target.url, [model_free() for _ in range(PROMPTS)])
            ours = await by_driver(backend, [model_free() for _ in range(PROMPTS)])
            ratios.append(ours / baseline)
            print(f"straight {baseline:.2f} s, by the driver {ours:.2f} s: {ours / baseline:.3f}")

    assert median(ratios) <= 1.10, ratios
