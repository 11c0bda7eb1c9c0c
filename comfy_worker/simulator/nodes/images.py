"""Pictures made, loaded and changed without a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from PIL import Image, ImageChops, ImageFilter, ImageOps

from comfy_worker.simulator.nodes.context import NodeContext, NodeError
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult, Options, Output
from comfy_worker.simulator.nodes.values import Images

RESAMPLING = {
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


async def _empty_image(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    color: int = inputs["color"]
    rgb = (color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF)
    image = Image.new("RGB", (inputs["width"], inputs["height"]), rgb)
    return NodeResult(((image,) * inputs["batch_size"],))


async def _load_image(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    path = context.storage.annotated_path(inputs["image"])
    image, mask = await context.in_thread(_open, path)
    return NodeResult(((image,), (mask,)))


async def _load_mask(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    path = context.storage.annotated_path(inputs["image"])
    return NodeResult(((await context.in_thread(_open_mask, path, inputs["channel"]),),))


async def _scale_by(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    images: Images = inputs["image"]
    width, height = (max(1, round(side * inputs["scale_by"])) for side in images[0].size)
    resample = RESAMPLING[inputs["upscale_method"]]
    size = (width, height)
    return NodeResult(
        (tuple([await context.in_thread(each.resize, size, resample) for each in images]),)
    )


async def _scale(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    images: Images = inputs["image"]
    width, height = images[0].size
    target_width, target_height = inputs["width"], inputs["height"]
    if not (target_width or target_height):
        return NodeResult((images,))
    # A side of 0 follows from the other one and the picture's proportions.
    target_width = target_width or max(1, round(width * target_height / height))
    target_height = target_height or max(1, round(height * target_width / width))
    resample = RESAMPLING[inputs["upscale_method"]]
    size = (target_width, target_height)
    if inputs["crop"] == "center":
        scaled = [await context.in_thread(ImageOps.fit, each, size, resample) for each in images]
    else:
        scaled = [await context.in_thread(each.resize, size, resample) for each in images]
    return NodeResult((tuple(scaled),))


async def _blur(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    blur = ImageFilter.GaussianBlur(min(inputs["sigma"], inputs["blur_radius"]))
    images: Images = inputs["image"]
    return NodeResult((tuple([await context.in_thread(each.filter, blur) for each in images]),))


async def _invert(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    images: Images = inputs["image"]
    return NodeResult((tuple(ImageChops.invert(each) for each in images),))


def _open(path: str) -> tuple[Image.Image, Image.Image]:
    """Return a picture and its mask: the inverted alpha channel."""
    with _opened(path) as turned:
        if "A" in turned.getbands():
            mask = ImageChops.invert(turned.getchannel("A"))
        else:
            mask = Image.new("L", (64, 64), 0)
        return turned.convert("RGB"), mask


def _open_mask(path: str, channel: str) -> Image.Image:
    """Return one channel of a picture as a mask; alpha is inverted, and none masks nothing."""
    with _opened(path) as turned:
        name = channel[0].upper()
        if name != "A":
            return turned.convert("RGB").getchannel(name)
        if "A" not in turned.getbands():
            return Image.new("L", (64, 64), 0)
        return ImageChops.invert(turned.getchannel("A"))


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """Open a picture the right way up; what Pillow raises on it is the node's error."""
    try:
        with Image.open(path) as opened:
            yield ImageOps.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError) as error:
        kind = type(error)
        name = kind.__name__ if kind.__module__ == "builtins" else f"PIL.{kind.__name__}"
        raise NodeError(str(error), name) from error


def _input_files(options: Options) -> list[str]:
    return list(options.input_files)


def _side(minimum: int) -> dict[str, Any]:
    return {"default": 512, "min": minimum, "max": 16384, "step": 1}


IMAGE_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="EmptyImage",
        run=_empty_image,
        inputs=(
            Input("width", "INT", _side(1)),
            Input("height", "INT", _side(1)),
            Input("batch_size", "INT", {"default": 1, "min": 1, "max": 4096}),
            Input(
                "color",
                "INT",
                {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"},
            ),
        ),
        outputs=(Output("IMAGE"),),
        category="image",
        display_name="EmptyImage",
    ),
    NodeClass(
        name="LoadImage",
        run=_load_image,
        inputs=(Input("image", _input_files, {"image_upload": True}),),
        outputs=(Output("IMAGE"), Output("MASK")),
        category="image",
        display_name="Load Image",
        file_input="image",
    ),
    NodeClass(
        name="LoadImageMask",
        run=_load_mask,
        inputs=(
            Input("image", _input_files, {"image_upload": True}),
            Input("channel", ("alpha", "red", "green", "blue")),
        ),
        outputs=(Output("MASK"),),
        category="mask",
        display_name="Load Image (as Mask)",
        file_input="image",
    ),
    NodeClass(
        name="ImageScaleBy",
        run=_scale_by,
        inputs=(
            Input("image", "IMAGE"),
            Input("upscale_method", tuple(RESAMPLING)),
            Input("scale_by", "FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01}),
        ),
        outputs=(Output("IMAGE"),),
        category="image/upscaling",
        display_name="Upscale Image By",
    ),
    NodeClass(
        name="ImageScale",
        run=_scale,
        inputs=(
            Input("image", "IMAGE"),
            Input("upscale_method", tuple(RESAMPLING)),
            Input("width", "INT", _side(0)),
            Input("height", "INT", _side(0)),
            Input("crop", ("disabled", "center")),
        ),
        outputs=(Output("IMAGE"),),
        category="image/upscaling",
        display_name="Upscale Image",
    ),
    NodeClass(
        name="ImageBlur",
        run=_blur,
        inputs=(
            Input("image", "IMAGE", {}),
            Input("blur_radius", "INT", {"default": 1, "min": 1, "max": 31, "step": 1}),
            Input("sigma", "FLOAT", {"default": 1.0, "min": 0.1, "max": 10.0, "step": 0.1}),
        ),
        outputs=(Output("IMAGE"),),
        category="image/postprocessing",
        display_name=None,
        python_module="comfy_extras.nodes_post_processing",
        newer_interface=True,
    ),
    NodeClass(
        name="ImageInvert",
        run=_invert,
        inputs=(Input("image", "IMAGE"),),
        outputs=(Output("IMAGE"),),
        category="image",
        display_name="Invert Image",
    ),
)
