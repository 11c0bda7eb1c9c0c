"""WebSocket clients: who gets which message."""

import asyncio
import json
import logging
import struct
import uuid
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from comfy_worker.simulator.faults import Faults
from comfy_worker.simulator.signals import Signals

SERVER_FEATURES: dict[str, Any] = {
    "supports_preview_metadata": True,
    "max_upload_size": 104_857_600,
    "extension": {"manager": {"supports_v4": True}},
}
"""What the server says about itself in the handshake and at GET /features (recording 01)."""

OUTBOX_LIMIT = 50_000

EVENT_PREVIEW = 1
EVENT_TEXT = 3
EVENT_PREVIEW_WITH_METADATA = 4
IMAGE_JPEG = 1
IMAGE_PNG = 2

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Client:
    socket: web.WebSocketResponse
    features: dict[str, Any] = field(default_factory=dict)


class Sockets:
    """The connected clients by client id, and the one outbox of everything sent to them.

    One task delivers all messages in order and waits for each client, so a client that stops
    reading holds up everybody, as with ComfyUI (recording 17). The outbox is bounded: what
    does not fit any more is dropped.

    Attributes:
        running_client: client_id of the prompt that runs, or ran last.
        running_node: Node that runs now; a client that reconnects is told (recording 08b).

    """

    def __init__(self, faults: Faults, signals: Signals) -> None:
        self.running_client: object = None
        self.running_node: str | None = None
        self._faults = faults
        self._signals = signals
        self._clients: dict[object, _Client] = {}
        self._transports: set[asyncio.Transport] = set()
        self._outbox: asyncio.Queue[tuple[str | bytes, object]] = asyncio.Queue(OUTBOX_LIMIT)

    def send(self, message_type: str, data: dict[str, Any], client_id: object = None) -> None:
        """Queue a message for one client, or for all when `client_id` is None."""
        self._queue(json.dumps({"type": message_type, "data": data}), client_id)

    def send_binary(self, event: int, payload: bytes, client_id: object = None) -> None:
        """Queue a binary frame: the event as big-endian u32, then the payload."""
        self._queue(struct.pack(">I", event) + payload, client_id)

    def send_preview(
        self, image: bytes, metadata: dict[str, Any], image_type: str = "image/jpeg"
    ) -> None:
        """Queue a picture with metadata (event 4: u32 length, JSON, picture)."""
        head = json.dumps(metadata | {"image_type": image_type}).encode()
        payload = struct.pack(">I", len(head)) + head + image
        self.send_binary(EVENT_PREVIEW_WITH_METADATA, payload, self.running_client)

    def wants_preview_metadata(self) -> bool:
        """Tell whether the running prompt's client asked for event 4 in its handshake."""
        client = self._find(self.running_client)
        return client is not None and client.features.get("supports_preview_metadata") is True

    async def serve(self, request: web.Request, status: dict[str, Any]) -> web.StreamResponse:
        """Serve one client until it goes.

        A second client of the same id takes over the id; when either of them goes, the id is
        gone (recording 08c).
        """
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        client_id = request.query.get("clientId") or uuid.uuid4().hex
        client = _Client(socket)
        self._clients[client_id] = client
        transport = request.transport
        if transport is not None:
            self._transports.add(transport)
        self._signals.note_sockets(len(self._clients))
        self.send("status", {"status": status, "sid": client_id}, client_id)
        if client_id == self.running_client and self.running_node is not None:
            self.send("executing", {"node": self.running_node}, client_id)
        try:
            await self._read(client, client_id)
        finally:
            if transport is not None:
                self._transports.discard(transport)
            self._clients.pop(client_id, None)
            self._signals.note_sockets(len(self._clients))
        return socket

    async def deliver(self) -> None:
        """Send what is in the outbox, one message after the other, until cancelled."""
        while True:
            message, client_id = await self._outbox.get()
            await self._faults.until_sockets_flow()
            if self._faults.silent_sockets:
                continue
            if client_id is None:
                receivers = list(self._clients.values())
            else:
                found = self._find(client_id)
                receivers = [] if found is None else [found]
            for client in receivers:
                await _send(client.socket, message)

    def abort(self) -> None:
        """Cut every connection without a closing handshake: clients see 1006 (recording 09)."""
        for transport in self._transports:
            transport.abort()

    async def _read(self, client: _Client, client_id: str) -> None:
        first = True
        async for message in client.socket:
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                body = json.loads(message.data)
            except ValueError:
                logger.debug("client %s sent something that is not JSON", client_id)
                continue
            # Only the first JSON message may be the handshake (recording 08d).
            if first and isinstance(body, dict) and body.get("type") == "feature_flags":
                features = body.get("data")
                client.features = features if isinstance(features, dict) else {}
                self.send("feature_flags", SERVER_FEATURES, client_id)
            first = False

    def _find(self, client_id: object) -> _Client | None:
        return self._clients.get(client_id) if isinstance(client_id, str) else None

    def _queue(self, message: str | bytes, client_id: object) -> None:
        try:
            self._outbox.put_nowait((message, client_id))
        except asyncio.QueueFull:
            logger.warning("outbox full (%d messages): a client does not read", OUTBOX_LIMIT)


async def _send(socket: web.WebSocketResponse, message: str | bytes) -> None:
    try:
        if isinstance(message, bytes):
            await socket.send_bytes(message)
        else:
            await socket.send_str(message)
    except (ConnectionError, RuntimeError) as error:
        logger.debug("a client went while a message was sent: %r", error)
