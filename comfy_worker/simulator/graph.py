"""Graphs in API format: links between nodes and the order of execution."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

from comfy_worker.simulator.prompt_queue import Graph


def is_link(value: object) -> TypeGuard[list[Any]]:
    """Tell whether an input value is a link: [node id, output slot]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def links(inputs: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    """Yield (node id, slot) for each linked input, in the order the inputs are written."""
    for value in inputs.values():
        if is_link(value):
            yield value[0], value[1]


class ExecutionOrder:
    """Decides which node runs next, in ComfyUI's order (recordings 06 and 14).

    From the outputs backwards, nodes join in depth-first order, the last input first; nodes
    whose result is cached do not join. Of the nodes that are ready an output comes first, then
    one that feeds an output, then one that feeds a feeder, then the first that joined.
    """

    def __init__(
        self,
        graph: Graph,
        outputs: list[str],
        *,
        is_output: Callable[[str], bool],
        is_cached: Callable[[str], bool],
    ) -> None:
        self._is_output = is_output
        self._waiting_for: dict[str, set[str]] = {}
        self._feeds: dict[str, set[str]] = {}
        for output in outputs:
            self._join(graph, output, is_cached)
        for node_id in self._waiting_for:
            self._waiting_for[node_id] = {
                source for source, _ in links(graph[node_id]["inputs"]) if source in self._feeds
            }
            for source in self._waiting_for[node_id]:
                self._feeds[source].add(node_id)

    def next(self) -> str | None:
        """Return the node to run now; None when all have run."""
        ready = [node_id for node_id, sources in self._waiting_for.items() if not sources]
        if not ready:
            return None
        return min(ready, key=self._distance)

    def done(self, node_id: str) -> None:
        """Take a node that has run out; whatever waited for it may become ready."""
        del self._waiting_for[node_id]
        for target in self._feeds.pop(node_id):
            self._waiting_for[target].discard(node_id)

    def _distance(self, node_id: str) -> int:
        """Distance to the nearest output, as far as it matters (0, 1, 2, else 3)."""
        if self._is_output(node_id):
            return 0
        fed = self._feeds[node_id]
        if any(self._is_output(target) for target in fed):
            return 1
        if any(self._is_output(target) for near in fed for target in self._feeds[near]):
            return 2
        return 3

    def _join(self, graph: Graph, output: str, is_cached: Callable[[str], bool]) -> None:
        stack = [output]
        while stack:
            node_id = stack.pop()
            if node_id in self._waiting_for:
                continue
            self._waiting_for[node_id] = set()
            self._feeds[node_id] = set()
            stack.extend(
                source for source, _ in links(graph[node_id]["inputs"]) if not is_cached(source)
            )
