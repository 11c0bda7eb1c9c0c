"""Results of the last prompt, kept for the next."""

import contextlib
import hashlib
import json
from collections.abc import Callable

from comfy_worker.simulator.graph import is_link, links
from comfy_worker.simulator.nodes.declaration import NodeClass, NodeResult
from comfy_worker.simulator.prompt_queue import Graph


class Signatures:
    """What the result of each node of a graph depends on: its class, its inputs, its sources.

    Args:
        graph: The graph.
        classes: The node classes there are.
        file_fingerprint: Gives the state of a file a node reads, by the input's value.

    """

    def __init__(
        self,
        graph: Graph,
        classes: Callable[[str], NodeClass],
        file_fingerprint: Callable[[str], str],
    ) -> None:
        self._graph = graph
        self._classes = classes
        self._file_fingerprint = file_fingerprint
        self._known: dict[str, str] = {}

    def of(self, node_id: str) -> str:
        """Return a node's signature; the ids of nodes do not matter, what they do does.

        Raises:
            KeyError: The node or one of its sources has no inputs.
            ValueError: The node depends on itself.

        """
        path = [node_id]
        while path:
            inputs = self._graph[path[-1]]["inputs"]
            missing = next((each for each, _ in links(inputs) if self._is_missing(each)), None)
            if missing is None:
                current = path.pop()
                self._known[current] = self._digest(current)
            elif missing in path:
                raise ValueError(f"node {missing} depends on itself")
            else:
                path.append(missing)
        return self._known[node_id]

    def all(self) -> dict[str, str]:
        """Return the signatures of all nodes that have one, in the graph's order.

        A graph that runs may hold nodes that cannot: those no good output depends on.
        """
        signatures = {}
        for node_id in self._graph:
            with contextlib.suppress(KeyError, ValueError):
                signatures[node_id] = self.of(node_id)
        return signatures

    def _is_missing(self, node_id: str) -> bool:
        return node_id in self._graph and node_id not in self._known

    def _digest(self, node_id: str) -> str:
        node_class = self._classes(self._graph[node_id]["class_type"])
        parts: list[object] = [node_class.name]
        if "UNIQUE_ID" in node_class.hidden.values():
            parts.append(node_id)
        for name, value in sorted(self._graph[node_id]["inputs"].items()):
            if is_link(value) and value[0] in self._known:
                parts.append([name, self._known[value[0]], value[1]])
            else:
                parts.append([name, value])
            if name == node_class.file_input and isinstance(value, str):
                parts.append(self._file_fingerprint(value))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class ResultCache:
    """Node results by signature. Only what the latest prompt mentions stays (recording 03)."""

    def __init__(self) -> None:
        self._results: dict[str, NodeResult] = {}

    def keep_only(self, signatures: set[str]) -> None:
        """Forget the results of all other nodes."""
        self._results = {
            signature: result
            for signature, result in self._results.items()
            if signature in signatures
        }

    def get(self, signature: str) -> NodeResult | None:
        """Return a node's result, if it is known."""
        return self._results.get(signature)

    def put(self, signature: str, result: NodeResult) -> None:
        """Remember a node's result."""
        self._results[signature] = result

    def clear(self) -> None:
        """Forget everything, as after `POST /free` (recording 11)."""
        self._results.clear()
