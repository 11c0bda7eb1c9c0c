"""Prompts as the newer models take them, and what else steers the sampling."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from comfy_worker.simulator.drawing import Guide
from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult, Output
from comfy_worker.simulator.nodes.values import Conditioning, ControlNet, Images


async def _encode_sdxl(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult((Conditioning(_joined(inputs["text_g"], inputs["text_l"]), inputs["clip"]),))


async def _encode_flux(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    text = _joined(inputs["t5xxl"], inputs["clip_l"])
    guidance = f"guidance:{inputs['guidance']}"
    return NodeResult((Conditioning(text, inputs["clip"], (guidance,)),))


async def _guide(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    conditioning: Conditioning = inputs["conditioning"]
    settings = (*conditioning.settings, f"guidance:{inputs['guidance']}")
    return NodeResult((replace(conditioning, settings=settings),))


async def _zero_out(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    conditioning: Conditioning = inputs["conditioning"]
    return NodeResult((replace(conditioning, text=""),))


async def _apply_control_net(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    positive: Conditioning = inputs["positive"]
    negative: Conditioning = inputs["negative"]
    control_net: ControlNet = inputs["control_net"]
    images: Images = inputs["image"]
    share = max(0.0, inputs["end_percent"] - inputs["start_percent"])
    guide = Guide(images[0], inputs["strength"] * share)
    return NodeResult(
        tuple(
            replace(
                each,
                settings=(*each.settings, control_net.name),
                guides=(*each.guides, guide),
            )
            for each in (positive, negative)
        )
    )


def _joined(first: str, second: str) -> str:
    return first if second in {"", first} else f"{first}, {second}"


_TEXT = {"multiline": True, "dynamicPrompts": True}
_GUIDANCE = {"default": 3.5, "min": 0.0, "max": 100.0, "step": 0.1}
_PERCENT_STEPS = {"min": 0.0, "max": 1.0, "step": 0.001}


def _pixels(default: int) -> dict[str, Any]:
    return {"default": default, "min": 0, "max": 16384}


CONDITIONING_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="CLIPTextEncodeSDXL",
        run=_encode_sdxl,
        inputs=(
            Input("clip", "CLIP", {}),
            Input("width", "INT", _pixels(1024)),
            Input("height", "INT", _pixels(1024)),
            Input("crop_w", "INT", _pixels(0)),
            Input("crop_h", "INT", _pixels(0)),
            Input("target_width", "INT", _pixels(1024)),
            Input("target_height", "INT", _pixels(1024)),
            Input("text_g", "STRING", _TEXT),
            Input("text_l", "STRING", _TEXT),
        ),
        outputs=(Output("CONDITIONING"),),
        category="advanced/conditioning",
        display_name=None,
        python_module="comfy_extras.nodes_clip_sdxl",
        newer_interface=True,
    ),
    NodeClass(
        name="CLIPTextEncodeFlux",
        run=_encode_flux,
        inputs=(
            Input("clip", "CLIP", {}),
            Input("clip_l", "STRING", _TEXT),
            Input("t5xxl", "STRING", _TEXT),
            Input("guidance", "FLOAT", _GUIDANCE),
        ),
        outputs=(Output("CONDITIONING"),),
        category="advanced/conditioning/flux",
        display_name=None,
        python_module="comfy_extras.nodes_flux",
        newer_interface=True,
    ),
    NodeClass(
        name="FluxGuidance",
        run=_guide,
        inputs=(Input("conditioning", "CONDITIONING", {}), Input("guidance", "FLOAT", _GUIDANCE)),
        outputs=(Output("CONDITIONING"),),
        category="advanced/conditioning/flux",
        display_name=None,
        python_module="comfy_extras.nodes_flux",
        newer_interface=True,
    ),
    NodeClass(
        name="ConditioningZeroOut",
        run=_zero_out,
        inputs=(Input("conditioning", "CONDITIONING"),),
        outputs=(Output("CONDITIONING"),),
        category="advanced/conditioning",
        display_name="ConditioningZeroOut",
    ),
    NodeClass(
        name="ControlNetApplyAdvanced",
        run=_apply_control_net,
        inputs=(
            Input("positive", "CONDITIONING"),
            Input("negative", "CONDITIONING"),
            Input("control_net", "CONTROL_NET"),
            Input("image", "IMAGE"),
            Input("strength", "FLOAT", {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01}),
            Input("start_percent", "FLOAT", {"default": 0.0, **_PERCENT_STEPS}),
            Input("end_percent", "FLOAT", {"default": 1.0, **_PERCENT_STEPS}),
            Input("vae", "VAE", optional=True),
        ),
        outputs=(
            Output("CONDITIONING", name="positive"),
            Output("CONDITIONING", name="negative"),
        ),
        category="conditioning/controlnet",
        display_name="Apply ControlNet",
    ),
)
