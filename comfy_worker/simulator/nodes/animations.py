"""Nodes that save a batch of pictures as one animation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult
from comfy_worker.simulator.nodes.saving import target_of
from comfy_worker.simulator.nodes.values import Images

_WEBP_METHODS = {"default": 4, "fastest": 0, "slowest": 6}


async def _save_webp(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    options = {
        "lossless": inputs["lossless"],
        "quality": inputs["quality"],
        "method": _WEBP_METHODS[inputs["method"]],
    }
    return await _save(context, inputs, "webp", options)


async def _save_png(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return await _save(context, inputs, "png", {"compress_level": inputs["compress_level"]})


async def _save(
    context: NodeContext, inputs: Mapping[str, Any], extension: str, options: Mapping[str, Any]
) -> NodeResult:
    images: Images = inputs["images"]
    target = target_of(context, inputs["filename_prefix"], images)
    name = target.file_name(extension=extension)
    milliseconds = round(1000 / inputs["fps"])
    await context.in_thread(_write, images, target.folder / name, milliseconds, options)
    saved = {"filename": name, "subfolder": target.subfolder, "type": "output"}
    return NodeResult((), {"images": [saved], "animated": [True]})


def _write(images: Images, path: Path, milliseconds: int, options: Mapping[str, Any]) -> None:
    first, *others = images
    # Pillow joins frames that are the same into one that lasts longer.
    first.save(path, save_all=True, append_images=others, duration=milliseconds, **options)


def _inputs(*own: Input) -> tuple[Input, ...]:
    fps = {"default": 6.0, "min": 0.01, "max": 1000.0, "step": 0.01}
    return (
        Input("images", "IMAGE", {}),
        Input("filename_prefix", "STRING", {"default": "ComfyUI", "multiline": False}),
        Input("fps", "FLOAT", fps),
        *own,
    )


_HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}

ANIMATION_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="SaveAnimatedWEBP",
        run=_save_webp,
        inputs=_inputs(
            Input("lossless", "BOOLEAN", {"default": True}),
            Input("quality", "INT", {"default": 80, "min": 0, "max": 100}),
            Input("method", tuple(_WEBP_METHODS)),
        ),
        hidden=_HIDDEN,
        category="image/animation",
        display_name=None,
        output_node=True,
        python_module="comfy_extras.nodes_images",
        newer_interface=True,
    ),
    NodeClass(
        name="SaveAnimatedPNG",
        run=_save_png,
        inputs=_inputs(Input("compress_level", "INT", {"default": 4, "min": 0, "max": 9})),
        hidden=_HIDDEN,
        category="image/animation",
        display_name=None,
        output_node=True,
        python_module="comfy_extras.nodes_images",
        newer_interface=True,
    ),
)
