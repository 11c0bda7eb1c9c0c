"""What a node sees of its run."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from comfy_worker.simulator.faults import Hold
from comfy_worker.simulator.machinery import Machinery
from comfy_worker.simulator.nodes.context import NodeError
from comfy_worker.simulator.prompt_queue import QueueItem
from comfy_worker.simulator.run_messages import RunMessages
from comfy_worker.simulator.websocket import (
    EVENT_PREVIEW,
    EVENT_TEXT,
    IMAGE_JPEG,
    IMAGE_PNG,
)

P = ParamSpec("P")
T = TypeVar("T")

PREVIEW_METHODS = ("latent2rgb", "taesd", "auto")


class RunningNode:
    """The NodeContext of one node of one run."""

    def __init__(
        self, machinery: Machinery, messages: RunMessages, item: QueueItem, node_id: str
    ) -> None:
        _, self._prompt_id, self.graph, extra_data, _ = item
        self._machinery = machinery
        self._messages = messages
        self.settings = machinery.settings
        self.storage = machinery.storage
        self.node_id = node_id
        extra = extra_data.get("extra_pnginfo")
        self.extra_pnginfo: dict[str, Any] = extra if isinstance(extra, dict) else {}
        wanted = extra_data.get("preview_method")
        known = isinstance(wanted, str) and wanted in (*PREVIEW_METHODS, "none")
        self.previews = (wanted if known else self.settings.preview_method) in PREVIEW_METHODS

    def fail_if_planned(self, step: int) -> None:
        """Raise the error planned for this point of the run, if there is one.

        Raises:
            NodeError: There is one.

        """
        class_type = self.graph[self.node_id]["class_type"]
        fault = self._machinery.faults.take_node_fault(self._prompt_id, class_type, step)
        if fault is not None:
            raise NodeError(fault.message, fault.exception_type)

    async def wait(self, seconds: float) -> None:
        """See NodeContext."""
        await asyncio.sleep(seconds * self.settings.time_scale)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See NodeContext."""
        return await asyncio.to_thread(function, *args, **kwargs)

    async def step(
        self, value: int, maximum: int, frame: Callable[[], bytes] | None = None
    ) -> None:
        """See NodeContext."""
        hold = self._machinery.faults.take_hold(self._prompt_id, value)
        if hold is not None:
            await self._park(hold)
        self._machinery.interruption.check()
        self.fail_if_planned(value)
        faults = self._machinery.faults
        await faults.until_thawed()
        jpeg = None
        if frame is not None:
            jpeg = await asyncio.to_thread(frame) + bytes(faults.giant_frame_bytes)
        messages = self._messages
        state = messages.progress.advance(self.node_id, value, maximum)
        for _ in range(faults.progress_copies):
            messages.broadcast("progress_state", state)
        with_metadata = self._machinery.sockets.wants_preview_metadata()
        if jpeg is not None and with_metadata:
            self._machinery.sockets.send_preview(jpeg, self._preview_metadata())
        progress = {
            "value": value,
            "max": maximum,
            "prompt_id": self._prompt_id,
            "node": self.node_id,
        }
        for _ in range(faults.progress_copies):
            messages.broadcast("progress", progress)
        if jpeg is not None and not with_metadata:
            self._send_plain_image(IMAGE_JPEG, jpeg)
        self._machinery.signals.note_step(self._prompt_id, value)

    async def work_regardless(self) -> None:
        """See NodeContext."""
        hold = self._machinery.faults.take_hold(self._prompt_id, 1)
        if hold is not None:
            await hold.park(self._prompt_id)

    def send_text(self, text: str) -> None:
        """See NodeContext."""
        node = self.node_id.encode()
        payload = struct.pack(">I", len(node)) + node + text.encode()
        self._machinery.sockets.send_binary(EVENT_TEXT, payload, self._messages.client_id)

    def send_image(self, png: bytes) -> None:
        """See NodeContext."""
        if self._machinery.sockets.wants_preview_metadata():
            metadata = self._preview_metadata()
            self._machinery.sockets.send_preview(png, metadata, "image/png")
        else:
            self._send_plain_image(IMAGE_PNG, png)

    def _send_plain_image(self, kind: int, image: bytes) -> None:
        payload = struct.pack(">I", kind) + image
        self._machinery.sockets.send_binary(EVENT_PREVIEW, payload, self._messages.client_id)

    def _preview_metadata(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "prompt_id": self._prompt_id,
            "display_node_id": self.node_id,
            "parent_node_id": None,
            "real_node_id": self.node_id,
        }

    async def _park(self, hold: Hold) -> None:
        """Stay at the hold until it is released or the run is interrupted."""
        parked = asyncio.ensure_future(hold.park(self._prompt_id))
        interrupted = asyncio.ensure_future(self._machinery.interruption.wait())
        try:
            await asyncio.wait({parked, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            parked.cancel()
            interrupted.cancel()
