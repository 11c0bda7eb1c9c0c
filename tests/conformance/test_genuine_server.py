"""The genuine ComfyUI that the conformance tests run against makes real pictures."""

import asyncio
import io
import json
from typing import Any

import aiohttp
import pytest
from PIL import Image, ImageStat

from tests.conformance.genuine import CHECKPOINT, LORA, GenuineServer

# The first run downloads torch.
pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


async def test_text_to_image_with_a_lora_makes_a_picture_of_its_own(
    genuine_server: GenuineServer,
) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession(genuine_server.url) as http:
        plain = await picture(http, text_to_image(lora_strength=0.0))
        patched = await picture(http, text_to_image(lora_strength=1.0))

    for png in (plain, patched):
        assert png.startswith(PNG_SIGNATURE)
        image = Image.open(io.BytesIO(png)).convert("RGB")
        assert image.size == (64, 64)
        assert min(ImageStat.Stat(image).stddev) > 1, "a channel is nearly uniform"
    assert pixels(plain) != pixels(patched), "the LoRA changed nothing"
    assert "lora key not loaded" not in genuine_server.log.read_text()


async def test_a_killed_server_comes_back_at_the_same_url_with_its_files(
    genuine_server: GenuineServer,
) -> None:
    url = genuine_server.url
    async with asyncio.timeout(60), aiohttp.ClientSession(url) as http:
        before = await picture(http, text_to_image(lora_strength=0.5))

    genuine_server.kill()
    with pytest.raises(RuntimeError, match="not running"):
        _ = genuine_server.pid
    await asyncio.to_thread(genuine_server.restart)

    assert genuine_server.url == url
    assert before in [file.read_bytes() for file in genuine_server.output_directory.glob("*.png")]


def text_to_image(*, lora_strength: float) -> dict[str, Any]:
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "lora": node(
            "LoraLoader",
            model=["checkpoint", 0],
            clip=["checkpoint", 1],
            lora_name=LORA,
            strength_model=lora_strength,
            strength_clip=lora_strength,
        ),
        "positive": node("CLIPTextEncode", clip=["lora", 1], text="a lighthouse at dusk"),
        "negative": node("CLIPTextEncode", clip=["lora", 1], text="blurry"),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "sampler": node(
            "KSampler",
            model=["lora", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            seed=1,
            steps=2,
            cfg=5.5,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "decoded": node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "saved": node("SaveImage", images=["decoded", 0], filename_prefix="genuine"),
    }


def node(class_type: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


async def picture(http: aiohttp.ClientSession, graph: dict[str, Any]) -> bytes:
    """The file that the graph's SaveImage made, once the prompt is through."""
    async with http.ws_connect("/ws", params={"clientId": "conformance"}) as socket:
        submission = {"prompt": graph, "client_id": "conformance"}
        async with http.post("/prompt", json=submission) as response:
            assert response.status == 200, await response.text()
            prompt_id = (await response.json())["prompt_id"]
        image = await saved_image(socket, prompt_id)
    async with http.get("/view", params=image) as response:
        assert response.status == 200
        return await response.read()


async def saved_image(socket: aiohttp.ClientWebSocketResponse, prompt_id: str) -> dict[str, str]:
    """The {filename, subfolder, type} that SaveImage reported for the prompt."""
    images: list[dict[str, str]] = []
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        if event["data"].get("prompt_id") != prompt_id:
            continue
        assert event["type"] not in {"execution_error", "execution_interrupted"}, event
        if event["type"] == "executed":
            images += event["data"]["output"]["images"]
        if event["type"] == "executing" and event["data"]["node"] is None:
            (image,) = images
            return image
    raise AssertionError("ComfyUI closed the WebSocket during the prompt")


def pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).tobytes()
