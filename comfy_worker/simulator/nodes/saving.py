"""Nodes a prompt may end in: they save pictures or send them."""

import io
import json
import random
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from comfy_worker.simulator.nodes.context import NodeContext, NodeError
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult
from comfy_worker.simulator.nodes.values import Images
from comfy_worker.simulator.storage import OutsideDirectoryError, SaveTarget

PNG_COMPRESSION = 4


async def _save(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return await _write(context, inputs["images"], inputs["filename_prefix"], "output")


async def _preview(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    mark = "".join(random.choices(string.ascii_lowercase, k=5))  # noqa: S311 - only a name
    return await _write(context, inputs["images"], f"ComfyUI_temp_{mark}", "temp")


async def _send(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    images: Images = inputs["images"]
    # It reports each picture before sending it, from 0, and never the last step (recording 15).
    for index, image in enumerate(images):
        png = await context.in_thread(_encode, image)
        await context.step(index, len(images))
        context.send_image(png)
    return NodeResult()


def target_of(
    context: NodeContext, prefix: str, images: Images, kind: str = "output"
) -> SaveTarget:
    """Choose where files of this prefix go.

    Raises:
        NodeError: The prefix leads out of the directory.

    """
    size = images[0].size if images else (0, 0)
    try:
        return context.storage.save_target(kind, prefix, *size)
    except OutsideDirectoryError as error:
        raise NodeError(str(error)) from error


async def _write(context: NodeContext, images: Images, prefix: str, kind: str) -> NodeResult:
    target = target_of(context, prefix, images, kind)
    metadata = _metadata(context.graph, context.extra_pnginfo)
    saved = []
    for index, image in enumerate(images):
        name = target.file_name(index)
        await context.in_thread(_write_png, image, target.folder / name, metadata)
        saved.append({"filename": name, "subfolder": target.subfolder, "type": kind})
    return NodeResult((), {"images": saved})


def _metadata(graph: Mapping[str, Any], extra: Mapping[str, Any]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(graph))
    for name, value in extra.items():
        info.add_text(name, json.dumps(value))
    return info


def _write_png(image: Image.Image, path: Path, metadata: PngImagePlugin.PngInfo) -> None:
    image.save(path, format="PNG", pnginfo=metadata, compress_level=PNG_COMPRESSION)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=PNG_COMPRESSION)
    return buffer.getvalue()


_HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}

SAVING_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="SaveImage",
        run=_save,
        inputs=(
            Input("images", "IMAGE", {"tooltip": "Pictures to save."}),
            Input(
                "filename_prefix",
                "STRING",
                {"default": "ComfyUI", "tooltip": "Start of the file names, with subfolders."},
            ),
        ),
        hidden=_HIDDEN,
        category="image",
        display_name="Save Image",
        description="Writes pictures into the output directory.",
        output_node=True,
    ),
    NodeClass(
        name="PreviewImage",
        run=_preview,
        inputs=(Input("images", "IMAGE"),),
        hidden=_HIDDEN,
        category="image",
        display_name="Preview Image",
        description="Writes pictures into the temporary directory.",
        output_node=True,
    ),
    NodeClass(
        name="SaveImageWebsocket",
        run=_send,
        inputs=(Input("images", "IMAGE"),),
        category="api/image",
        display_name="SaveImageWebsocket",
        output_node=True,
        python_module="custom_nodes.websocket_image_save",
    ),
)
