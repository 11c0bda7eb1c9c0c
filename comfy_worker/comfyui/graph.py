"""The built-in text-to-image workflow as a ComfyUI graph in API format. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Graph: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Node id → ``{"class_type": …, "inputs": {…}}``; a link is ``[node id, output slot]``."""

_MODEL_SLOT, _CLIP_SLOT, _VAE_SLOT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Lora:
    """One LoRA of the chain, with the strengths ComfyUI's LoraLoader takes."""

    name: str
    strength_model: float
    strength_clip: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextToImage:
    """Everything a text-to-image picture is made from; defaults are resolved before.

    ``filename_prefix`` has to be unique per attempt: SaveImage then runs even when
    every other node is cached, so that no attempt answers with another one's files
    (recording 03).
    """

    prompt: str
    negative_prompt: str
    checkpoint: str
    loras: tuple[Lora, ...] = ()
    width: int
    height: int
    batch_size: int
    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float
    filename_prefix: str


def build_text_to_image(spec: TextToImage) -> Graph:
    """Build the graph for ``spec``.

    Node ids name the node's part (``sampler``, ``lora_1``), because they come back in
    progress events and error messages.
    """
    nodes: dict[str, dict[str, Any]] = {
        "checkpoint": _node("CheckpointLoaderSimple", ckpt_name=spec.checkpoint)
    }
    model: list[str | int] = ["checkpoint", _MODEL_SLOT]
    clip: list[str | int] = ["checkpoint", _CLIP_SLOT]
    for position, lora in enumerate(spec.loras, start=1):
        node_id = f"lora_{position}"
        nodes[node_id] = _node(
            "LoraLoader",
            model=model,
            clip=clip,
            lora_name=lora.name,
            strength_model=lora.strength_model,
            strength_clip=lora.strength_clip,
        )
        model, clip = [node_id, _MODEL_SLOT], [node_id, _CLIP_SLOT]
    nodes["positive"] = _node("CLIPTextEncode", text=spec.prompt, clip=clip)
    nodes["negative"] = _node("CLIPTextEncode", text=spec.negative_prompt, clip=clip)
    nodes["latent"] = _node(
        "EmptyLatentImage", width=spec.width, height=spec.height, batch_size=spec.batch_size
    )
    nodes["sampler"] = _node(
        "KSampler",
        model=model,
        positive=["positive", 0],
        negative=["negative", 0],
        latent_image=["latent", 0],
        seed=spec.seed,
        steps=spec.steps,
        cfg=spec.cfg,
        sampler_name=spec.sampler,
        scheduler=spec.scheduler,
        denoise=spec.denoise,
    )
    nodes["decode"] = _node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", _VAE_SLOT])
    nodes["save"] = _node("SaveImage", images=["decode", 0], filename_prefix=spec.filename_prefix)
    return nodes


def checkpoint_of(graph: Graph) -> str | None:
    """Return the checkpoint file a graph loads, or None; the first one where there are several."""
    for node in graph.values():
        match node.get("inputs"):
            case {"ckpt_name": str(name)}:
                return name
            case _:
                continue
    return None


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}
