"""The one WebSocket to a ComfyUI: always open, always read, never trusted alone."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import aiohttp
import structlog
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    wait_exponential_jitter,
)

from comfy_worker.comfyui.client import ComfyClient
from comfy_worker.comfyui.errors import ComfyUnreachableError
from comfy_worker.comfyui.event_sorting import EventSorter
from comfy_worker.comfyui.events import parse_binary, parse_text
from comfy_worker.comfyui.health import Health
from comfy_worker.comfyui.mailbox import Mailbox
from comfy_worker.outage import Outage

_HANDSHAKE: Final = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
_SHORTEST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0

log = structlog.get_logger(__name__)


class Session:
    """Keeps a WebSocket open and sorts its events into the mailboxes of prompts.

    Each connection has a client id of its own: a second socket under one id silences
    the first, and goes silent itself when the first closes (recording 08c). The reader
    never waits for anybody, because a socket that is not read stalls the messages of
    every other client (recording 17). A lost connection is opened again, with growing
    pauses. An async context manager.
    """

    def __init__(self, client: ComfyClient, health: Health) -> None:
        self._client = client
        self._health = health
        self._client_id = str(uuid4())
        self._connected = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._disconnected.set()
        self._mailboxes: dict[str, Mailbox] = {}
        self._overhearing: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._outage = Outage(
            log,
            begins="comfyui is not connected, trying until it is",
            lasts="comfyui is still not connected",
            ends="comfyui is connected",
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_open(), name="comfyui-session")
        self._task.add_done_callback(_log_crash)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    @property
    def client_id(self) -> str:
        """The id to send prompts with, so that their events come here."""
        return self._client_id

    @property
    def connected(self) -> bool:
        """Whether the socket is open now."""
        return self._connected.is_set()

    async def wait_connected(self, seconds: float | None = None) -> bool:
        """Wait until the socket is open, at most ``seconds``; return whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    async def wait_disconnected(self) -> None:
        """Wait until the socket is not open."""
        await self._disconnected.wait()

    @contextmanager
    def listen(self, prompt_id: str, mailbox: Mailbox) -> Iterator[None]:
        """Deliver the events of ``prompt_id`` to ``mailbox``; to be called before it is sent."""
        self._mailboxes[prompt_id] = mailbox
        try:
            yield
        finally:
            if self._mailboxes.get(prompt_id) is mailbox:
                del self._mailboxes[prompt_id]

    @contextmanager
    def overhear(self, client_id: str, running: str) -> Iterator[None]:
        """Hear what is sent to another client id, of whose prompts ``running`` is running.

        That is an id whose own socket is gone: of a predecessor, or of this session before it
        lost its connection. ComfyUI keeps sending to it (recording 08b). Should its old socket
        be closed only now, this one falls silent (recording 08c); nothing relies on it.
        """
        users, task = self._overhearing.get(client_id, (0, None))
        if task is None:
            task = asyncio.create_task(self._overhear(client_id, running), name="comfyui-overhear")
            task.add_done_callback(_log_crash)
        self._overhearing[client_id] = users + 1, task
        try:
            yield
        finally:
            users, task = self._overhearing.pop(client_id)
            if users > 1:
                self._overhearing[client_id] = users - 1, task
            else:
                task.cancel()

    async def _overhear(self, client_id: str, running: str) -> None:
        try:
            async with self._client.websocket(client_id) as socket:
                await socket.send_json(_HANDSHAKE)
                await _read(socket, EventSorter(self._mailboxes, running))
        except (ComfyUnreachableError, aiohttp.ClientError) as error:
            log.info("prompt not overheard", prompt_id=running, reason=str(error))

    async def _keep_open(self) -> None:
        while True:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type((ComfyUnreachableError, aiohttp.ClientError)),
                wait=wait_exponential_jitter(multiplier=_SHORTEST_PAUSE, max=_LONGEST_PAUSE),
                before_sleep=self._outage.failed_call,
            ):
                with attempt:
                    await self._connect_and_read()
            await asyncio.sleep(_SHORTEST_PAUSE)

    async def _connect_and_read(self) -> None:
        client_id = str(uuid4())
        async with self._client.websocket(client_id) as socket:
            await socket.send_json(_HANDSHAKE)
            self._client_id = client_id
            self._connected.set()
            self._disconnected.clear()
            self._health.connected()
            self._connection_changed()
            self._outage.over()
            try:
                await _read(socket, EventSorter(self._mailboxes))
            finally:
                self._connected.clear()
                self._disconnected.set()
                self._health.disconnected()
                self._connection_changed()
        self._outage.failed(f"the socket was closed with code {socket.close_code}")

    def _connection_changed(self) -> None:
        for mailbox in self._mailboxes.values():
            mailbox.connection_changed()


async def _read(socket: aiohttp.ClientWebSocketResponse, sorter: EventSorter) -> None:
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            sorter.sort(parse_text(message.data))
        elif message.type is aiohttp.WSMsgType.BINARY:
            sorter.sort(parse_binary(message.data))


def _log_crash(task: asyncio.Task[None]) -> None:
    """Say so when the session ends through a bug; its prompts are polled from then on."""
    if not task.cancelled() and task.exception() is not None:
        log.error("comfyui session crashed", exc_info=task.exception())
