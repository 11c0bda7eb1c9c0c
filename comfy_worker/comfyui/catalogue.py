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


def choices_in(class_info: Any, node_class: str, input_name: str) -> tuple[str, ...] | None:
    """Return the values one input takes, out of ``/object_info/{class}``; None when unknown."""
    node = class_info.get(node_class) if isinstance(class_info, Mapping) else None
    groups = node.get("input") if isinstance(node, Mapping) else None
    for group in groups.values() if isinstance(groups, Mapping) else ():
        if isinstance(group, Mapping) and input_name in group:
            return choices_of(group[input_name])
    return None


def choices_of(spec: Any) -> tuple[str, ...] | None:
    """List a choice: ``[[…], {…}]`` or, for newer nodes, ``["COMBO", {"options": […]}]``.

    None for what is no choice. Values that are no text, or no valid Unicode, are left out.
    """
    if not isinstance(spec, list) or not spec:
        return None
    options = spec[0]
    if options == "COMBO" and len(spec) > 1 and isinstance(spec[1], Mapping):
        options = spec[1].get("options")
    if not isinstance(options, list):
        return None
    return tuple(option for option in options if isinstance(option, str) and is_text(option))


def _options(object_info: Mapping[str, Any], node_class: str, input_name: str) -> tuple[str, ...]:
    return choices_of(_spec(object_info, node_class, input_name)) or ()


def _maximum(object_info: Mapping[str, Any], node_class: str, input_name: str) -> int | None:
    match _spec(object_info, node_class, input_name):
        case [_, {"max": int(maximum)}]:
            return maximum
        case _:
            return None


def _spec(object_info: Mapping[str, Any], node_class: str, input_name: str) -> Any:
    spec: Any = object_info
    for key in (node_class, "input", "required", input_name):
        spec = spec.get(key) if isinstance(spec, Mapping) else None
    return spec
