"""How long runs of one kind have taken, so that the next of that kind can be told an end. Pure."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from statistics import median
from typing import Any, Final, TypeAlias

from comfy_worker.comfyui import Graph

_MOST_KINDS: Final = 1024
_RUNS_PER_KIND: Final = 5
_SIZES: Final = frozenset({"width", "height", "batch_size", "length", "steps", "megapixels"})

Kind: TypeAlias = tuple[Any, ...]


def kind_of(backend: str, graph: Graph) -> Kind:
    """What decides how long a run takes, as far as a graph shows it.

    The ComfyUI, the node classes, the models and the sampler by name, sizes and steps; not the
    texts, the seed, or which LoRAs.
    """
    return backend, *sorted(repr(_traits(node)) for node in graph.values())


class RunTimes:
    """Seconds of the last few runs of each kind; the kinds not seen for longest are forgotten."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[Kind, deque[float]] = OrderedDict()

    def note(self, kind: Kind, seconds: float) -> None:
        """Note how long a run took."""
        self._seconds.setdefault(kind, deque(maxlen=_RUNS_PER_KIND)).append(seconds)
        self._seconds.move_to_end(kind)
        if len(self._seconds) > _MOST_KINDS:
            self._seconds.popitem(last=False)

    def expected(self, kind: Kind) -> float | None:
        """How long such a run usually takes, None when there has been none."""
        known = self._seconds.get(kind)
        return median(known) if known else None


def _traits(node: Mapping[str, Any]) -> tuple[str, list[tuple[str, Any]]]:
    inputs = node.get("inputs")
    items = inputs.items() if isinstance(inputs, Mapping) else ()
    return str(node.get("class_type")), sorted(
        (name, value) for name, value in items if _decides(name, value)
    )


def _decides(name: Any, value: Any) -> bool:
    if not isinstance(name, str):
        return False
    if isinstance(value, str):
        return name.endswith("_name") and name != "lora_name"
    return name in _SIZES and isinstance(value, int | float)
