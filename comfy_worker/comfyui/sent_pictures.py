"""Finished pictures that nodes send over the WebSocket instead of saving them.

SaveImageWebsocket leaves the history empty and sends each picture once, as a PNG where previews
are JPEGs (recording 15; under the preview metadata handshake with the node's id). What is not
heard then is gone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from comfy_worker.comfyui.events import PreviewImage
from comfy_worker.comfyui.graph import Graph

_SENDERS: Final = "websocket"
"""In the lower-case name of a class that sends its pictures."""
_PNG: Final = "image/png"


@dataclass(frozen=True, slots=True)
class SentPicture:
    """One picture, kept as a file of this machine."""

    node_id: str
    path: Path


class SentPictures:
    """Writes the pictures of one prompt into ``folder``, at most ``most_bytes`` in all.

    Without a folder, and beyond that, they are dropped.
    """

    def __init__(self, graph: Graph, folder: Path | None, most_bytes: int) -> None:
        self._senders = frozenset(
            node_id
            for node_id, node in graph.items()
            if _SENDERS in str(node.get("class_type", "")).lower()
        )
        self._folder = folder
        self._bytes_left = most_bytes
        self._pictures: list[SentPicture] = []
        self._are_dropped = False
        self.all_heard = False
        """The end of the run was heard on the connection that has heard all of it."""

    @property
    def pictures(self) -> tuple[SentPicture, ...]:
        """What has come so far."""
        return tuple(self._pictures)

    @property
    def are_awaited(self) -> bool:
        """Whether the graph has a node that sends pictures, and somebody wants them."""
        return bool(self._senders) and self._folder is not None

    @property
    def gap(self) -> str:
        """Why pictures are missing, empty when none is."""
        if not self.are_awaited:
            return ""
        if self._are_dropped:
            return "the pictures that came over the WebSocket are more than this worker takes"
        return "" if self.all_heard else "pictures that were sent over the WebSocket were missed"

    def take(self, event: PreviewImage, running_node: str | None) -> bool:
        """Keep what is a finished picture; False for a mere preview.

        Written at once, into the page cache: that holds up the reader of the socket less than
        a thread would.
        """
        node_id = event.node_id or running_node
        if event.media_type != _PNG or node_id not in self._senders or node_id is None:
            return False
        if self._folder is None:
            return True
        self._bytes_left -= len(event.data)
        if self._bytes_left < 0:
            self._are_dropped = True
            return True
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"websocket_{len(self._pictures) + 1:05}_.png"
        path.write_bytes(event.data)
        self._pictures.append(SentPicture(node_id, path))
        return True
