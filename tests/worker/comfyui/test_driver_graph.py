"""The built-in graph says to ComfyUI what the job says."""

import pytest

from comfy_worker.comfyui.graph import checkpoint_of
from tests.worker.comfyui.graphs import CHECKPOINT, LORAS, text_to_image


def test_without_loras_the_checkpoint_feeds_sampler_and_prompts() -> None:
    graph = text_to_image()
    classes = {node_id: node["class_type"] for node_id, node in graph.items()}
    assert classes == {
        "checkpoint": "CheckpointLoaderSimple",
        "positive": "CLIPTextEncode",
        "negative": "CLIPTextEncode",
        "latent": "EmptyLatentImage",
        "sampler": "KSampler",
        "decode": "VAEDecode",
        "save": "SaveImage",
    }
    sampler = graph["sampler"]["inputs"]
    assert sampler == {
        "model": ["checkpoint", 0],
        "positive": ["positive", 0],
        "negative": ["negative", 0],
        "latent_image": ["latent", 0],
        "seed": 2**53 + 1,
        "steps": 4,
        "cfg": 5.5,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    assert graph["positive"]["inputs"] == {
        "text": "a lighthouse at dawn",
        "clip": ["checkpoint", 1],
    }
    assert graph["negative"]["inputs"]["text"] == "blurry"
    assert graph["latent"]["inputs"] == {"width": 64, "height": 96, "batch_size": 1}
    assert graph["decode"]["inputs"]["vae"] == ["checkpoint", 2]
    assert graph["save"]["inputs"]["filename_prefix"] == "driver-tests/picture"


def test_loras_are_chained_in_order() -> None:
    graph = text_to_image(loras=LORAS)
    first, second = graph["lora_1"]["inputs"], graph["lora_2"]["inputs"]
    assert (first["model"], first["clip"]) == (["checkpoint", 0], ["checkpoint", 1])
    assert (first["lora_name"], first["strength_model"], first["strength_clip"]) == (
        "add_detail.safetensors",
        0.8,
        0.5,
    )
    assert (second["model"], second["clip"]) == (["lora_1", 0], ["lora_1", 1])
    assert graph["sampler"]["inputs"]["model"] == ["lora_2", 0]
    assert graph["positive"]["inputs"]["clip"] == ["lora_2", 1]
    assert graph["negative"]["inputs"]["clip"] == ["lora_2", 1]


def test_the_checkpoint_of_a_graph() -> None:
    assert checkpoint_of(text_to_image()) == CHECKPOINT
    assert checkpoint_of({"1": {"class_type": "EmptyImage", "inputs": {}}}) is None


@pytest.mark.parametrize("inputs", [[], None, "x", {"ckpt_name": ["9", 0]}])
def test_odd_inputs_name_no_checkpoint(inputs: object) -> None:
    assert checkpoint_of({"1": {"class_type": "X", "inputs": inputs}}) is None
