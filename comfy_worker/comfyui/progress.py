"""One rising fraction and a phase out of ComfyUI's per-node progress. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from comfy_worker.comfyui.events import (
    Event,
    Executing,
    ExecutionCached,
    ExecutionStart,
    NodeProgress,
    ProgressState,
    StepProgress,
)
from comfy_worker.comfyui.graph import Graph

_SAMPLER_WEIGHT: Final = 100.0
_DECODE_WEIGHT: Final = 8.0
_LOADER_WEIGHT: Final = 5.0
_OTHER_WEIGHT: Final = 1.0
_MOST_STEPS: Final = 1_000_000
_BEFORE_CONFIRMATION: Final = 0.99
"""Highest fraction until the history has confirmed the result."""


class Phase(StrEnum):
    """What ComfyUI is doing with the prompt: waiting, or mainly running nodes of this kind.

    Loading includes text encoding; decoding includes writing the files.
    """

    QUEUED = "queued"
    LOADING = "loading"
    SAMPLING = "sampling"
    DECODING = "decoding"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a prompt is.

    ``fraction`` is 0…1 and never falls within a run. ``step`` of ``steps`` counts
    within the current node and is 0 of 0 for nodes without steps.
    """

    fraction: float
    phase: Phase
    node_id: str | None
    node_class: str | None
    step: int
    steps: int


class ProgressTracker:
    """Folds the events of one prompt into its newest :class:`Progress`.

    Each node weighs by its class, the samplers by far the most; nodes answered from
    the cache do not count. Nodes the graph does not name (those a node expands into)
    move neither fraction nor phase.
    """

    def __init__(self, graph: Graph) -> None:
        self._classes = {node_id: _class_of(graph, node_id) for node_id in graph}
        self._weights = {node_id: _weight(name) for node_id, name in self._classes.items()}
        self._done: dict[str, float] = {}
        self._current = Progress(0.0, Phase.QUEUED, None, None, 0, 0)

    @property
    def current(self) -> Progress:
        """The newest state."""
        return self._current

    def observe(self, event: Event) -> None:
        """Take in one event of this prompt; events without progress change nothing."""
        match event:
            case ExecutionStart():
                self._move(self._current.node_id, 0, 0)
            case ExecutionCached(nodes=nodes):
                for node_id in nodes:
                    self._weights.pop(node_id, None)
                    self._done.pop(node_id, None)
            case Executing(node_id=str() as node_id) if node_id in self._classes:
                self._move(node_id, 0, 0)
            case StepProgress(node_id=node_id, value=value, maximum=maximum):
                target = node_id or self._current.node_id
                if target in self._classes:
                    self._advance(target, value, maximum)
                    self._move(target, value, maximum)
            case ProgressState(nodes=nodes):
                self._observe_nodes(nodes)
            case _:
                pass

    def complete(self) -> Progress:
        """Return the final state, once the history has confirmed the result."""
        return Progress(
            1.0,
            Phase.DECODING,
            self._current.node_id,
            self._current.node_class,
            self._current.step,
            self._current.steps,
        )

    def _observe_nodes(self, nodes: Mapping[str, NodeProgress]) -> None:
        for node_id, node in nodes.items():
            if node_id not in self._classes:
                continue
            if node.state == "finished":
                self._advance(node_id, 1.0, 1.0)
            else:
                self._advance(node_id, node.value, node.maximum)
                self._move(node_id, node.value, node.maximum)
        self._move(self._current.node_id, None, None)

    def _advance(self, node_id: str, value: float, maximum: float) -> None:
        share = min(max(value / maximum, 0.0), 1.0) if maximum > 0 else 0.0
        if node_id in self._weights:
            self._done[node_id] = max(self._done.get(node_id, 0.0), share)

    def _move(self, node_id: str | None, value: float | None, maximum: float | None) -> None:
        """Make ``node_id`` the current node; None for value and maximum keeps the steps."""
        if value is None or maximum is None:
            step, steps = self._current.step, self._current.steps
        elif maximum > 1:
            steps = int(min(maximum, _MOST_STEPS))
            step = int(min(max(value, 0.0), steps))
        elif node_id == self._current.node_id:
            step, steps = self._current.step, self._current.steps
        else:
            step, steps = 0, 0
        node_class = self._classes.get(node_id) if node_id is not None else None
        self._current = Progress(
            max(self._current.fraction, self._fraction()),
            _phase(node_class, self._current.phase),
            node_id,
            node_class,
            step,
            steps,
        )

    def _fraction(self) -> float:
        total = sum(self._weights.values())
        if total <= 0:
            return 0.0
        done = sum(self._weights[node_id] * share for node_id, share in self._done.items())
        return min(done / total, _BEFORE_CONFIRMATION)


def is_sampler(node_class: str) -> bool:
    """Whether a node class does the denoising (KSamplerSelect only names an algorithm)."""
    return node_class != "KSamplerSelect" and node_class.startswith(("KSampler", "SamplerCustom"))


def _class_of(graph: Graph, node_id: str) -> str:
    name = graph[node_id].get("class_type")
    return name if isinstance(name, str) else ""


def _weight(node_class: str) -> float:
    if is_sampler(node_class):
        return _SAMPLER_WEIGHT
    if "Decode" in node_class:
        return _DECODE_WEIGHT
    if "Loader" in node_class:
        return _LOADER_WEIGHT
    return _OTHER_WEIGHT


def _phase(node_class: str | None, previous: Phase) -> Phase:
    if node_class is None:
        return Phase.LOADING if previous is Phase.QUEUED else previous
    if is_sampler(node_class):
        return Phase.SAMPLING
    if "Decode" in node_class or node_class.startswith(("Save", "Preview")):
        return Phase.DECODING
    if "Load" in node_class or "TextEncode" in node_class or previous is Phase.QUEUED:
        return Phase.LOADING
    return previous
