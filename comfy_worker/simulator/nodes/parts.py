"""Loaders of single parts of a model: diffusion model, text encoders, ControlNet, upscaler."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult, Options, Output
from comfy_worker.simulator.nodes.values import Clip, ControlNet, Images, Model, UpscaleModel

CLIP_TYPES = (
    *("stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart"),
    *("cosmos", "lumina2", "wan", "hidream", "chroma", "ace", "omnigen2", "qwen_image"),
    *("hunyuan_image", "flux2", "ovis"),
)
DUAL_CLIP_TYPES = (
    *("sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image", "hunyuan_video_15"),
    *("kandinsky5", "kandinsky5_image", "ltxv", "newbie"),
)
WEIGHT_TYPES = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
_FACTOR = re.compile(r"(?<![0-9])([1-8])x|x([1-8])(?![0-9])", re.IGNORECASE)
_USUAL_FACTOR = 4


async def _load_diffusion_model(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    await context.wait(context.settings.load_seconds)
    return NodeResult((Model(inputs["unet_name"]),))


async def _load_text_encoders(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    names = [value for name, value in inputs.items() if name.startswith("clip_name")]
    return NodeResult((Clip("+".join(names)),))


async def _load_control_net(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult((ControlNet(inputs["control_net_name"]),))


async def _load_upscale_model(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    name: str = inputs["model_name"]
    found = _FACTOR.search(name)
    factor = int(found[1] or found[2]) if found else _USUAL_FACTOR
    return NodeResult((UpscaleModel(name, factor),))


async def _upscale(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    model: UpscaleModel = inputs["upscale_model"]
    images: Images = inputs["image"]
    size = (images[0].width * model.factor, images[0].height * model.factor)
    lanczos = Image.Resampling.LANCZOS
    return NodeResult(
        (tuple([await context.in_thread(each.resize, size, lanczos) for each in images]),)
    )


async def _set_sampling(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    model: Model = inputs["model"]
    shifts = tuple(f"{name}:{value}" for name, value in inputs.items() if "shift" in name)
    return NodeResult((replace(model, loras=(*model.loras, *shifts)),))


def _diffusion_models(options: Options) -> list[str]:
    return list(options.diffusion_models)


def _text_encoders(options: Options) -> list[str]:
    return list(options.text_encoders)


def _control_nets(options: Options) -> list[str]:
    return list(options.controlnets)


def _upscale_models(options: Options) -> list[str]:
    return list(options.upscale_models)


def _shift(default: float) -> dict[str, Any]:
    return {"default": default, "min": 0.0, "max": 100.0, "step": 0.01}


_DEVICE = Input("device", ("default", "cpu"), {"advanced": True}, optional=True)
_SIDE = {"default": 1024, "min": 16, "max": 16384, "step": 8}
_RECIPES = "Which files go together depends on the type."

PART_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="UNETLoader",
        run=_load_diffusion_model,
        inputs=(Input("unet_name", _diffusion_models), Input("weight_dtype", WEIGHT_TYPES)),
        outputs=(Output("MODEL"),),
        category="advanced/loaders",
        display_name="Load Diffusion Model",
    ),
    NodeClass(
        name="CLIPLoader",
        run=_load_text_encoders,
        inputs=(Input("clip_name", _text_encoders), Input("type", CLIP_TYPES), _DEVICE),
        outputs=(Output("CLIP"),),
        category="advanced/loaders",
        display_name="Load CLIP",
        description=_RECIPES,
    ),
    NodeClass(
        name="DualCLIPLoader",
        run=_load_text_encoders,
        inputs=(
            Input("clip_name1", _text_encoders),
            Input("clip_name2", _text_encoders),
            Input("type", DUAL_CLIP_TYPES),
            _DEVICE,
        ),
        outputs=(Output("CLIP"),),
        category="advanced/loaders",
        display_name="DualCLIPLoader",
        description=_RECIPES,
    ),
    NodeClass(
        name="TripleCLIPLoader",
        run=_load_text_encoders,
        inputs=tuple(Input(f"clip_name{number}", _text_encoders) for number in (1, 2, 3)),
        outputs=(Output("CLIP"),),
        category="advanced/loaders",
        display_name=None,
        description=_RECIPES,
        python_module="comfy_extras.nodes_sd3",
        newer_interface=True,
    ),
    NodeClass(
        name="ControlNetLoader",
        run=_load_control_net,
        inputs=(Input("control_net_name", _control_nets),),
        outputs=(Output("CONTROL_NET"),),
        category="loaders",
        display_name="Load ControlNet Model",
    ),
    NodeClass(
        name="UpscaleModelLoader",
        run=_load_upscale_model,
        inputs=(Input("model_name", _upscale_models),),
        outputs=(Output("UPSCALE_MODEL"),),
        category="loaders",
        display_name="Load Upscale Model",
        python_module="comfy_extras.nodes_upscale_model",
        newer_interface=True,
    ),
    NodeClass(
        name="ImageUpscaleWithModel",
        run=_upscale,
        inputs=(Input("upscale_model", "UPSCALE_MODEL", {}), Input("image", "IMAGE", {})),
        outputs=(Output("IMAGE"),),
        category="image/upscaling",
        display_name="Upscale Image (using Model)",
        python_module="comfy_extras.nodes_upscale_model",
        newer_interface=True,
    ),
    NodeClass(
        name="ModelSamplingSD3",
        run=_set_sampling,
        inputs=(Input("model", "MODEL"), Input("shift", "FLOAT", _shift(3.0))),
        outputs=(Output("MODEL"),),
        category="advanced/model",
        display_name="ModelSamplingSD3",
        python_module="comfy_extras.nodes_model_advanced",
    ),
    NodeClass(
        name="ModelSamplingFlux",
        run=_set_sampling,
        inputs=(
            Input("model", "MODEL"),
            Input("max_shift", "FLOAT", _shift(1.15)),
            Input("base_shift", "FLOAT", _shift(0.5)),
            Input("width", "INT", _SIDE),
            Input("height", "INT", _SIDE),
        ),
        outputs=(Output("MODEL"),),
        category="advanced/model",
        display_name="ModelSamplingFlux",
        python_module="comfy_extras.nodes_model_advanced",
    ),
)
