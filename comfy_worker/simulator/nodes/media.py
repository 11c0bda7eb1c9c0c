"""Video, sound and meshes, from node classes of the simulator's own: files that really play."""

import json
import math
import struct
import wave
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult
from comfy_worker.simulator.nodes.saving import target_of
from comfy_worker.simulator.nodes.values import Images
from comfy_worker.simulator.webm import write_webm

_SAMPLE_RATE = 22_050
_TRIANGLE = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)


async def _save_video(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    images: Images = inputs["images"]
    write = lambda path: write_webm(path, images, inputs["fps"], inputs["least_bytes"])  # noqa: E731
    return await _save(context, inputs, "gifs", "webm", write, images)


async def _save_audio(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    write = lambda path: _write_wav(path, inputs["seconds"], inputs["frequency"])  # noqa: E731
    return await _save(context, inputs, "audio", "wav", write)


async def _save_mesh(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return await _save(context, inputs, "3d", "glb", _write_glb)


async def _save(
    context: NodeContext,
    inputs: Mapping[str, Any],
    key: str,
    extension: str,
    write: Callable[[Path], None],
    images: Images = (),
) -> NodeResult:
    target = target_of(context, inputs["filename_prefix"], images)
    name = target.file_name(extension=extension)
    await context.in_thread(write, target.folder / name)
    return NodeResult(
        (), {key: [{"filename": name, "subfolder": target.subfolder, "type": "output"}]}
    )


def _write_wav(path: Path, seconds: float, frequency: float) -> None:
    """Write one channel of 16 bits: a sine that fades in and out."""
    count = round(seconds * _SAMPLE_RATE)
    turn = math.tau * frequency / _SAMPLE_RATE
    loudness = (min(1.0, place / 500, (count - place) / 500) for place in range(count))
    samples = array(
        "h", (round(12_000 * loud * math.sin(turn * place)) for place, loud in enumerate(loudness))
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes(samples.tobytes())


def _write_glb(path: Path) -> None:
    """Write a triangle as binary glTF 2.0."""
    description = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": 3,
                "type": "VEC3",
                "min": [0, 0, 0],
                "max": [1, 1, 0],
            }
        ],
        "bufferViews": [{"buffer": 0, "byteLength": len(_TRIANGLE)}],
        "buffers": [{"byteLength": len(_TRIANGLE)}],
    }
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(_TRIANGLE), b"BIN\0") + _TRIANGLE
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


_PREFIX = Input("filename_prefix", "STRING", {"default": "ComfyUI"})
_MODULE = "custom_nodes.simulated_media"

MEDIA_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="SimulatedVideo",
        run=_save_video,
        inputs=(
            Input("images", "IMAGE", {"tooltip": "The frames."}),
            _PREFIX,
            Input("fps", "FLOAT", {"default": 8.0, "min": 0.1, "max": 120.0, "step": 0.1}),
            Input(
                "least_bytes",
                "INT",
                {"default": 0, "min": 0, "max": 2**32, "tooltip": "Fill the file up to this size."},
            ),
        ),
        category="simulated",
        display_name="Save Simulated Video",
        description="Writes a WebM (VP8) that plays.",
        output_node=True,
        python_module=_MODULE,
    ),
    NodeClass(
        name="SimulatedAudio",
        run=_save_audio,
        inputs=(
            _PREFIX,
            Input("seconds", "FLOAT", {"default": 1.0, "min": 0.01, "max": 60.0, "step": 0.01}),
            Input("frequency", "FLOAT", {"default": 440.0, "min": 20.0, "max": 10000.0}),
        ),
        category="simulated",
        display_name="Save Simulated Audio",
        description="Writes a WAV of one tone.",
        output_node=True,
        python_module=_MODULE,
    ),
    NodeClass(
        name="SimulatedMesh",
        run=_save_mesh,
        inputs=(_PREFIX,),
        category="simulated",
        display_name="Save Simulated Mesh",
        description="Writes a triangle as GLB.",
        output_node=True,
        python_module=_MODULE,
    ),
)
