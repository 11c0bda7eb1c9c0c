"""The progress_state message of one run."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class _NodeProgress:
    value: float
    maximum: float
    state: str


class ProgressState:
    """How far the nodes of one run have come; nodes not begun are not mentioned."""

    def __init__(self, prompt_id: str) -> None:
        self._prompt_id = prompt_id
        self._nodes: dict[str, _NodeProgress] = {}

    def start(self, node_id: str) -> dict[str, Any]:
        """Mark a node as running and return the message's data."""
        self._nodes[node_id] = _NodeProgress(0.0, 1.0, "running")
        return self._data()

    def advance(self, node_id: str, value: int, maximum: int) -> dict[str, Any]:
        """Set a running node's steps and return the message's data."""
        self._nodes[node_id] = _NodeProgress(value, maximum, "running")
        return self._data()

    def finish(self, node_id: str) -> dict[str, Any]:
        """Mark a node as finished and return the message's data.

        A node taken from the cache stands there with the integers 1 of 1, one that ran without
        steps with the fractions 1.0 of 1.0 (recording 03).
        """
        progress = self._nodes.setdefault(node_id, _NodeProgress(1, 1, "finished"))
        progress.state = "finished"
        progress.value = progress.maximum
        return self._data()

    def _data(self) -> dict[str, Any]:
        return {
            "prompt_id": self._prompt_id,
            "nodes": {
                node_id: {
                    "value": progress.value,
                    "max": progress.maximum,
                    "state": progress.state,
                    "node_id": node_id,
                    "prompt_id": self._prompt_id,
                    "display_node_id": node_id,
                    "parent_node_id": None,
                    "real_node_id": node_id,
                }
                for node_id, progress in self._nodes.items()
            },
        }
