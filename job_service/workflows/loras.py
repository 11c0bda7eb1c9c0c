"""Puts a job's LoRAs between the loaders of a graph and what uses them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from job_service.workflows.graph import Graph, new_node
from job_service.workflows.problems import InvalidWorkflowError, Problem, quoted

_FIELD: Final = "lora_models"
_MODEL_LOADERS: Final = {
    "CheckpointLoaderSimple": 0,
    "CheckpointLoader": 0,
    "UNETLoader": 0,
    "UnetLoaderGGUF": 0,
}
_CLIP_LOADERS: Final = {
    "CheckpointLoaderSimple": 1,
    "CheckpointLoader": 1,
    "CLIPLoader": 0,
    "DualCLIPLoader": 0,
    "TripleCLIPLoader": 0,
    "QuadrupleCLIPLoader": 0,
    "CLIPLoaderGGUF": 0,
    "DualCLIPLoaderGGUF": 0,
}
"""Loader class → the output slot of the model, or of the text encoder."""


@dataclass(frozen=True, slots=True)
class Lora:
    """One LoRA with its strengths, defaults resolved."""

    name: str
    strength_model: float
    strength_clip: float


def with_loras(graph: Graph, loras: Sequence[Lora]) -> Graph:
    """Apply ``loras`` in their order, before those that the graph has itself.

    A chain of LoraLoader nodes takes the place of the model and the text encoder wherever they are
    used. Raises InvalidWorkflowError (path ``lora_models``) unless exactly one loaded model and one
    loaded text encoder are used in the graph.
    """
    if not loras:
        return graph
    model = _only_source(graph, _MODEL_LOADERS, "diffusion model")
    clip = _only_source(graph, _CLIP_LOADERS, "text encoder")
    changed = graph.copy()
    chain: list[tuple[str, Lora]] = []
    for position, lora in enumerate(loras, start=1):
        node_id = changed.unused_id(f"lora_{position}")
        changed.nodes[node_id] = new_node("LoraLoader", {})
        chain.append((node_id, lora))
    last = chain[-1][0]
    moved = {model: [last, 0], clip: [last, 1]}
    for link in graph.links():
        replacement = moved.get((link.source_id, link.slot))
        if replacement:
            changed.nodes[link.node_id].inputs[link.input_name] = list(replacement)
    for node_id, lora in chain:
        changed.nodes[node_id].inputs.update(
            model=list(model),
            clip=list(clip),
            lora_name=lora.name,
            strength_model=lora.strength_model,
            strength_clip=lora.strength_clip,
        )
        model, clip = (node_id, 0), (node_id, 1)
    return changed


def _only_source(graph: Graph, loaders: dict[str, int], what: str) -> tuple[str, int]:
    used = {(link.source_id, link.slot): None for link in graph.links()}
    sources = [
        (node_id, slot)
        for node_id, slot in used
        if node_id in graph.nodes and loaders.get(graph.nodes[node_id].class_type) == slot
    ]
    if len(sources) == 1:
        return sources[0]
    if not sources:
        why = f"the graph uses no {what} from a loader that is known"
    else:
        nodes = ", ".join(quoted(node_id) for node_id, _ in sources[:5])
        why = f"the graph uses {len(sources)} of them: nodes {nodes}"
    raise InvalidWorkflowError(
        [
            Problem(
                _FIELD,
                f"LoRAs are put behind the one {what} of a graph, but {why};"
                " put LoraLoader nodes into the graph instead",
            )
        ]
    )
