"""Latents before a sampler has them: empty, out of pictures, masked, scaled."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PIL import Image, ImageFilter, ImageOps

from comfy_worker.simulator.drawing import draw
from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult, Output
from comfy_worker.simulator.nodes.values import Conditioning, Images, Latent, Masks

LATENT_RESAMPLING = {
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "bislerp": Image.Resampling.BICUBIC,
}
_GREY = (127, 127, 127)


async def drawn(context: NodeContext, latent: Latent) -> Images:
    """Return a latent as pictures."""
    if latent.pictures:
        return tuple([await context.in_thread(draw, each) for each in latent.pictures])
    if latent.base:
        return latent.base
    return (Image.new("RGB", (latent.width, latent.height), _GREY),) * latent.batch_size


async def _empty(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    # A latent has one cell for 8 by 8 pixels: odd sizes are rounded down.
    width, height = inputs["width"] // 8 * 8, inputs["height"] // 8 * 8
    return NodeResult((Latent(width, height, inputs["batch_size"]),))


async def _encode(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult((_encoded(inputs["pixels"]),))


async def _encode_for_inpaint(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    latent = _encoded(inputs["pixels"])
    masks = _fitted(inputs["mask"], latent)
    base = tuple(
        Image.composite(Image.new("RGB", image.size, _GREY), image, masks[index % len(masks)])
        for index, image in enumerate(latent.base)
    )
    grow: int = inputs["grow_mask_by"]
    grown = tuple(
        [await context.in_thread(_grown, each, grow) for each in masks] if grow else masks
    )
    return NodeResult((replace(latent, base=base, noise_mask=grown),))


async def _set_noise_mask(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    latent: Latent = inputs["samples"]
    return NodeResult((replace(latent, noise_mask=_fitted(inputs["mask"], latent)),))


async def _condition_inpaint(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    latent = _encoded(inputs["pixels"])
    if inputs["noise_mask"]:
        latent = replace(latent, noise_mask=_fitted(inputs["mask"], latent))
    positive: Conditioning = inputs["positive"]
    negative: Conditioning = inputs["negative"]
    return NodeResult((positive, negative, latent))


async def _repeat(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    latent: Latent = inputs["samples"]
    amount: int = inputs["amount"]
    return NodeResult(
        (
            replace(
                latent,
                batch_size=latent.batch_size * amount,
                pictures=latent.pictures * amount,
                base=latent.base * amount,
            ),
        )
    )


async def _scale(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    latent: Latent = inputs["samples"]
    width, height = inputs["width"] // 8 * 8, inputs["height"] // 8 * 8
    if not (width or height):
        return NodeResult((latent,))
    width = width or max(64, round(latent.width * height / latent.height / 8) * 8)
    height = height or max(64, round(latent.height * width / latent.width / 8) * 8)
    crop = inputs["crop"] == "center"
    return NodeResult(
        (await _scaled(context, latent, (width, height), inputs["upscale_method"], crop=crop),)
    )


async def _scale_by(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    latent: Latent = inputs["samples"]
    factor: float = inputs["scale_by"]
    width, height = (max(8, round(side / 8 * factor) * 8) for side in (latent.width, latent.height))
    return NodeResult((await _scaled(context, latent, (width, height), inputs["upscale_method"]),))


async def _scaled(
    context: NodeContext,
    latent: Latent,
    size: tuple[int, int],
    method: str,
    *,
    crop: bool = False,
) -> Latent:
    masks = tuple(each.resize(size) for each in latent.noise_mask)
    scaled = Latent(*size, latent.batch_size, noise_mask=masks)
    if not (latent.pictures or latent.base):
        return scaled
    resample = LATENT_RESAMPLING[method]
    images = await drawn(context, latent)
    scale = ImageOps.fit if crop else Image.Image.resize
    return replace(
        scaled,
        base=tuple([await context.in_thread(scale, each, size, resample) for each in images]),
    )


def _encoded(pixels: Images) -> Latent:
    width, height = (max(side // 8 * 8, 8) for side in pixels[0].size)
    base = tuple(image.crop((0, 0, width, height)) for image in pixels)
    return Latent(width, height, len(base), base=base)


def _fitted(masks: Masks, latent: Latent) -> Masks:
    """Return the masks in the latent's size, black and white."""
    return tuple(
        mask.resize((latent.width, latent.height)).point(lambda value: 255 if value > 127 else 0)
        for mask in masks
    )


def _grown(mask: Image.Image, pixels: int) -> Image.Image:
    return mask.filter(ImageFilter.MaxFilter(pixels // 2 * 2 + 1))


def _pixels(tooltip: str) -> dict[str, Any]:
    return {"default": 512, "min": 16, "max": 16384, "step": 8, "tooltip": tooltip}


def _side_of_sd3() -> dict[str, Any]:
    return {"default": 1024, "min": 16, "max": 16384, "step": 16}


def _side() -> dict[str, Any]:
    return {"default": 512, "min": 0, "max": 16384, "step": 8}


_BATCH = {"default": 1, "min": 1, "max": 4096}

LATENT_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="EmptyLatentImage",
        run=_empty,
        inputs=(
            Input("width", "INT", _pixels("Width in pixels.")),
            Input("height", "INT", _pixels("Height in pixels.")),
            Input("batch_size", "INT", {**_BATCH, "tooltip": "Number of pictures."}),
        ),
        outputs=(Output("LATENT", "Latents to sample from."),),
        category="latent",
        display_name="Empty Latent Image",
        description="Makes a batch of empty latents.",
    ),
    NodeClass(
        name="EmptySD3LatentImage",
        run=_empty,
        inputs=(
            Input("width", "INT", _side_of_sd3()),
            Input("height", "INT", _side_of_sd3()),
            Input("batch_size", "INT", _BATCH),
        ),
        outputs=(Output("LATENT"),),
        category="latent/sd3",
        display_name=None,
        python_module="comfy_extras.nodes_sd3",
        newer_interface=True,
    ),
    NodeClass(
        name="VAEEncode",
        run=_encode,
        inputs=(Input("pixels", "IMAGE"), Input("vae", "VAE")),
        outputs=(Output("LATENT"),),
        category="latent",
        display_name="VAE Encode",
    ),
    NodeClass(
        name="VAEEncodeForInpaint",
        run=_encode_for_inpaint,
        inputs=(
            Input("pixels", "IMAGE"),
            Input("vae", "VAE"),
            Input("mask", "MASK"),
            Input("grow_mask_by", "INT", {"default": 6, "min": 0, "max": 64, "step": 1}),
        ),
        outputs=(Output("LATENT"),),
        category="latent/inpaint",
        display_name="VAE Encode (for Inpainting)",
    ),
    NodeClass(
        name="SetLatentNoiseMask",
        run=_set_noise_mask,
        inputs=(Input("samples", "LATENT"), Input("mask", "MASK")),
        outputs=(Output("LATENT"),),
        category="latent/inpaint",
        display_name="Set Latent Noise Mask",
    ),
    NodeClass(
        name="InpaintModelConditioning",
        run=_condition_inpaint,
        inputs=(
            Input("positive", "CONDITIONING"),
            Input("negative", "CONDITIONING"),
            Input("vae", "VAE"),
            Input("pixels", "IMAGE"),
            Input("mask", "MASK"),
            Input(
                "noise_mask",
                "BOOLEAN",
                {"default": True, "tooltip": "Sample only within the mask."},
            ),
        ),
        outputs=(
            Output("CONDITIONING", name="positive"),
            Output("CONDITIONING", name="negative"),
            Output("LATENT", name="latent"),
        ),
        category="conditioning/inpaint",
        display_name="InpaintModelConditioning",
    ),
    NodeClass(
        name="RepeatLatentBatch",
        run=_repeat,
        inputs=(
            Input("samples", "LATENT"),
            Input("amount", "INT", {"default": 1, "min": 1, "max": 64}),
        ),
        outputs=(Output("LATENT"),),
        category="latent/batch",
        display_name="Repeat Latent Batch",
    ),
    NodeClass(
        name="LatentUpscale",
        run=_scale,
        inputs=(
            Input("samples", "LATENT"),
            Input("upscale_method", tuple(LATENT_RESAMPLING)),
            Input("width", "INT", _side()),
            Input("height", "INT", _side()),
            Input("crop", ("disabled", "center")),
        ),
        outputs=(Output("LATENT"),),
        category="latent",
        display_name="Upscale Latent",
    ),
    NodeClass(
        name="LatentUpscaleBy",
        run=_scale_by,
        inputs=(
            Input("samples", "LATENT"),
            Input("upscale_method", tuple(LATENT_RESAMPLING)),
            Input("scale_by", "FLOAT", {"default": 1.5, "min": 0.01, "max": 8.0, "step": 0.01}),
        ),
        outputs=(Output("LATENT"),),
        category="latent",
        display_name="Upscale Latent By",
    ),
)
