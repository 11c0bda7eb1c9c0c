"""The messages of one run: who gets them, and what the history keeps of them."""

import time
from typing import Any

from comfy_worker.simulator.progress import ProgressState
from comfy_worker.simulator.websocket import Sockets


class RunMessages:
    """Sends what one run has to tell.

    Attributes:
        client_id: Who sent the prompt; None when nobody is to be told.
        progress: The run's progress_state.
        kept: (type, data) of what the history keeps.

    """

    def __init__(self, sockets: Sockets, prompt_id: str, client_id: object) -> None:
        self.client_id = client_id
        self.progress = ProgressState(prompt_id)
        self.kept: list[tuple[str, dict[str, Any]]] = []
        self._sockets = sockets
        self._prompt_id = prompt_id

    def tell(self, message_type: str, data: dict[str, Any]) -> None:
        """Send a message that only the prompt's client gets, and nobody without one."""
        if self.client_id is not None:
            self.broadcast(message_type, data)

    def broadcast(self, message_type: str, data: dict[str, Any]) -> None:
        """Send a message that the prompt's client gets, and everybody without one."""
        self._sockets.send(message_type, data, self.client_id)

    def announce(self, message_type: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        """Send a message and keep it; `to_all` sends it also when the prompt has no client."""
        now = time.time_ns() // 1_000_000
        stamped = {"prompt_id": self._prompt_id, **data, "timestamp": now}
        self.kept.append((message_type, stamped))
        send = self.broadcast if to_all else self.tell
        send(message_type, stamped)

    def tell_executing(self, node_id: str) -> None:
        """Say that a node begins; clients that come later are told too."""
        if self.client_id is not None:
            self._sockets.running_node = node_id
        self.tell("executing", self._about(node_id))

    def tell_executed(self, node_id: str, ui: dict[str, Any] | None) -> None:
        """Say what a node shows."""
        self.tell("executed", self._about(node_id) | {"output": ui})

    def _about(self, node_id: str) -> dict[str, Any]:
        return {"node": node_id, "display_node": node_id, "prompt_id": self._prompt_id}
