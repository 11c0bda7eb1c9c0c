"""What a graph needs of the ComfyUI that runs it."""

from dataclasses import dataclass
from typing import Final

from job_service.workflows.graph import Graph

_CHECKPOINT_LOADERS: Final = frozenset(
    {
        "CheckpointLoaderSimple",
        "CheckpointLoader",
        "unCLIPCheckpointLoader",
        "ImageOnlyCheckpointLoader",
    }
)
_LORA_LOADERS: Final = frozenset({"LoraLoader", "LoraLoaderModelOnly"})

#: Classes and inputs whose values a job is routed by.
ROUTED_INPUTS: Final = frozenset(
    {
        *((loader, "ckpt_name") for loader in _CHECKPOINT_LOADERS),
        *((loader, "lora_name") for loader in _LORA_LOADERS),
    }
)


@dataclass(frozen=True, slots=True)
class GraphNeeds:
    """Equal for graphs that the same ComfyUIs can run.

    ``checkpoint`` is the first in the graph's order, the one ComfyUI has loaded longest, or empty;
    the others are sorted.
    """

    checkpoint: str
    loras: tuple[str, ...]
    node_classes: tuple[str, ...]


def needs_of(graph: Graph) -> GraphNeeds:
    """Read what ``graph`` loads from ComfyUI's own loaders, and its classes."""
    checkpoint = ""
    loras: set[str] = set()
    for node in graph.nodes.values():
        if node.class_type in _CHECKPOINT_LOADERS:
            name = node.inputs.get("ckpt_name")
            if isinstance(name, str) and not checkpoint:
                checkpoint = name
        elif node.class_type in _LORA_LOADERS:
            name = node.inputs.get("lora_name")
            if isinstance(name, str):
                loras.add(name)
    classes = {node.class_type for node in graph.nodes.values()}
    return GraphNeeds(checkpoint, tuple(sorted(loras)), tuple(sorted(classes)))
