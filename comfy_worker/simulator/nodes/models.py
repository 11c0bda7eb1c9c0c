"""Loaders and prompt encoding."""

from collections.abc import Mapping
from typing import Any

from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult, Options, Output
from comfy_worker.simulator.nodes.values import Clip, Conditioning, Model, Vae


async def _load_checkpoint(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    name = inputs["ckpt_name"]
    settings = context.settings
    await context.wait(settings.checkpoint_load_seconds.get(name, settings.load_seconds))
    return NodeResult((Model(name), Clip(name), Vae(name)))


async def _load_lora(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    model: Model = inputs["model"]
    clip: Clip = inputs["clip"]
    name = inputs["lora_name"]
    for_model = f"{name}:{inputs['strength_model']}"
    for_clip = f"{name}:{inputs['strength_clip']}"
    return NodeResult(
        (
            Model(model.checkpoint, (*model.loras, for_model)),
            Clip(clip.checkpoint, (*clip.loras, for_clip), clip.last_layer),
        )
    )


async def _load_vae(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult((Vae(inputs["vae_name"]),))


async def _set_last_layer(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    clip: Clip = inputs["clip"]
    return NodeResult((Clip(clip.checkpoint, clip.loras, inputs["stop_at_clip_layer"]),))


async def _encode_text(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult((Conditioning(inputs["text"], inputs["clip"]),))


def _checkpoints(options: Options) -> list[str]:
    return list(options.checkpoints)


def _loras(options: Options) -> list[str]:
    return list(options.loras)


def _vaes(options: Options) -> list[str]:
    return [*options.vaes, "pixel_space"]


def _strength(tooltip: str) -> dict[str, Any]:
    return {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01, "tooltip": tooltip}


MODEL_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="CheckpointLoaderSimple",
        run=_load_checkpoint,
        inputs=(Input("ckpt_name", _checkpoints, {"tooltip": "File name of the checkpoint."}),),
        outputs=(
            Output("MODEL", "Goes to a sampler."),
            Output("CLIP", "Goes to the text encoders."),
            Output("VAE", "Goes to the decoder."),
        ),
        category="loaders",
        display_name="Load Checkpoint",
        description="Takes model, text encoder and VAE from one checkpoint.",
    ),
    NodeClass(
        name="LoraLoader",
        run=_load_lora,
        inputs=(
            Input("model", "MODEL", {"tooltip": "Model to change."}),
            Input("clip", "CLIP", {"tooltip": "Text encoder to change."}),
            Input("lora_name", _loras, {"tooltip": "File name of the LoRA."}),
            Input("strength_model", "FLOAT", _strength("Weight on the model; may be negative.")),
            Input("strength_clip", "FLOAT", _strength("Weight on the encoder; may be negative.")),
        ),
        outputs=(
            Output("MODEL", "Model with the LoRA."),
            Output("CLIP", "Text encoder with the LoRA."),
        ),
        category="loaders",
        display_name="Load LoRA",
        description="Adds one LoRA to model and text encoder; chain several for more.",
    ),
    NodeClass(
        name="VAELoader",
        run=_load_vae,
        inputs=(Input("vae_name", _vaes),),
        outputs=(Output("VAE"),),
        category="loaders",
        display_name="Load VAE",
    ),
    NodeClass(
        name="CLIPSetLastLayer",
        run=_set_last_layer,
        inputs=(
            Input("clip", "CLIP"),
            Input("stop_at_clip_layer", "INT", {"default": -1, "min": -24, "max": -1, "step": 1}),
        ),
        outputs=(Output("CLIP"),),
        category="conditioning",
        display_name="CLIP Set Last Layer",
    ),
    NodeClass(
        name="CLIPTextEncode",
        run=_encode_text,
        inputs=(
            Input(
                "text",
                "STRING",
                {"multiline": True, "dynamicPrompts": True, "tooltip": "Prompt text."},
            ),
            Input("clip", "CLIP", {"tooltip": "Text encoder."}),
        ),
        outputs=(Output("CONDITIONING", "Goes to a sampler."),),
        category="conditioning",
        display_name="CLIP Text Encode (Prompt)",
        description="Encodes a prompt for a sampler.",
    ),
)
