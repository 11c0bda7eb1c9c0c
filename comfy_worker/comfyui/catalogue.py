"""What a ComfyUI offers, out of its ``/object_info``. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_worker.comfyui.node_signatures import NodeSignatures, is_text, node_signatures_of


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Model files and choices by name, in ComfyUI's order; limits in pixels and pictures.

    ``max_dimension`` holds for width and height. A limit is None where the server
    states none.
    """

    checkpoints: tuple[str, ...]
    loras: tuple[str, ...]
    vaes: tuple[str, ...]
    samplers: tuple[str, ...]
    schedulers: tuple[str, ...]
    node_classes: tuple[str, ...]
    max_dimension: int | None
    max_batch_size: int | None
    signatures: NodeSignatures = field(default_factory=NodeSignatures)


def catalogue_of(object_info: Mapping[str, Any]) -> Catalogue:
    """Read a whole ``/object_info`` answer; node classes it lacks leave gaps."""
    latent = "EmptyLatentImage"
    maxima = (_maximum(object_info, latent, name) for name in ("width", "height"))
    dimensions = [maximum for maximum in maxima if maximum is not None]
    return Catalogue(
        checkpoints=_options(object_info, "CheckpointLoaderSimple", "ckpt_name"),
        loras=_options(object_info, "LoraLoader", "lora_name"),
        vaes=_options(object_info, "VAELoader", "vae_name"),
        samplers=_options(object_info, "KSampler", "sampler_name"),
        schedulers=_options(object_info, "KSampler", "scheduler"),
        node_classes=tuple(name for name in object_info if is_text(name)),
        max_dimension=min(dimensions, default=None),
        max_batch_size=_maximum(object_info, latent, "batch_size"),
        signatures=node_signatures_of(object_info),
    )


def _options(object_info: Mapping[str, Any], node_class: str, input_name: str) -> tuple[str, ...]:
    """List a choice: ``[[…], {…}]`` or, for newer nodes, ``["COMBO", {"options": […]}]``."""
    kind, config = _input(object_info, node_class, input_name)
    options = config.get("options") if kind == "COMBO" else kind
    if not isinstance(options, list):
        return ()
    return tuple(option for option in options if isinstance(option, str) and is_text(option))


def _maximum(object_info: Mapping[str, Any], node_class: str, input_name: str) -> int | None:
    _, config = _input(object_info, node_class, input_name)
    maximum = config.get("max")
    return maximum if isinstance(maximum, int) else None


def _input(
    object_info: Mapping[str, Any], node_class: str, input_name: str
) -> tuple[Any, Mapping[str, Any]]:
    spec: Any = object_info
    for key in (node_class, "input", "required", input_name):
        spec = spec.get(key) if isinstance(spec, Mapping) else None
    if not isinstance(spec, list) or not spec:
        return None, {}
    config = spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    return spec[0], config
