"""Graphs for driver tests."""

from dataclasses import replace
from itertools import count
from typing import Any

from comfy_worker.comfyui import Graph, Lora, TextToImage, build_text_to_image

CHECKPOINT = "sd_xl_base_1.0.safetensors"
LORAS = (
    Lora("add_detail.safetensors", 0.8, 0.5),
    Lora("film_grain.safetensors", -1.0, 0.0),
)
SPEC = TextToImage(
    prompt="a lighthouse at dawn",
    negative_prompt="blurry",
    checkpoint=CHECKPOINT,
    width=64,
    height=96,
    batch_size=1,
    seed=2**53 + 1,
    steps=4,
    cfg=5.5,
    sampler="euler",
    scheduler="normal",
    denoise=1.0,
    filename_prefix="driver-tests/picture",
)
_nonces = count(1)


def text_to_image(**changes: Any) -> Graph:
    """The built-in graph of :data:`SPEC`, with changes."""
    return build_text_to_image(replace(SPEC, **changes))


def probe(**nodes: tuple[str, dict[str, Any]]) -> Graph:
    """A small image, and the given nodes by id as (class, inputs)."""
    empty = {"width": 64, "height": 64, "batch_size": 1, "color": next(_nonces)}
    return {
        "empty": {"class_type": "EmptyImage", "inputs": empty},
        **{
            node_id: {"class_type": class_type, "inputs": inputs}
            for node_id, (class_type, inputs) in nodes.items()
        },
    }


def save(source: str, prefix: str = "probe") -> tuple[str, dict[str, Any]]:
    """A SaveImage of what ``source`` puts out."""
    return "SaveImage", {"images": [source, 0], "filename_prefix": prefix}


def slow(steps: int = 3) -> Graph:
    """A graph whose one slow node reports its steps and can be held at each."""
    inputs = {"image": ["empty", 0], "steps": steps, "step_seconds": 0.0, "preview": True}
    return probe(slow=("ProbeSlow", {**inputs, "nonce": next(_nonces)}), save=save("slow"))
