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
    RetryCallState,
    retry_if_exception_type,
    wait_exponential_jitter,
)

from comfy_worker.comfyui.client import ComfyClient
from comfy_worker.comfyui.errors import ComfyUnreachableError
from comfy_worker.comfyui.events import (
    Event,
    Executing,
    ExecutionStart,
    Malformed,
    NodeText,
    Status,
    Unknown,
    parse_binary,
    parse_text,
)
from comfy_worker.comfyui.mailbox import Mailbox

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

    def __init__(self, client: ComfyClient) -> None:
        self._client = client
        self._client_id = str(uuid4())
        self._connected = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._disconnected.set()
        self._mailboxes: dict[str, Mailbox] = {}
        self._running: str | None = None
        self._task: asyncio.Task[None] | None = None

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

    async def _keep_open(self) -> None:
        while True:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type((ComfyUnreachableError, aiohttp.ClientError)),
                wait=wait_exponential_jitter(multiplier=_SHORTEST_PAUSE, max=_LONGEST_PAUSE),
                before_sleep=_log_failure,
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
            self._connection_changed()
            log.info("comfyui socket open")
            try:
                await self._read(socket)
            finally:
                self._connected.clear()
                self._disconnected.set()
                self._running = None
                self._connection_changed()
        log.warning("comfyui socket closed", code=socket.close_code)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._sort(parse_text(message.data))
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._sort(parse_binary(message.data))

    def _connection_changed(self) -> None:
        for mailbox in self._mailboxes.values():
            mailbox.connection_changed()

    def _sort(self, event: Event) -> None:
        match event:
            case Status():
                for mailbox in self._mailboxes.values():
                    mailbox.queue_changed()
            case Malformed(reason=reason):
                log.debug("comfyui frame ignored", reason=reason)
            case NodeText() | Unknown():
                pass
            case ExecutionStart(prompt_id=prompt_id):
                self._running = prompt_id
                self._deliver(prompt_id, event)
            case Executing(prompt_id=str() as prompt_id, node_id=None):
                self._running = None
                self._deliver(prompt_id, event)
            case _:
                # Frames without an id belong to the prompt that runs: ComfyUI runs one
                # at a time, and tells this client id only of its own.
                self._deliver(event.prompt_id or self._running, event)

    def _deliver(self, prompt_id: str | None, event: Event) -> None:
        mailbox = self._mailboxes.get(prompt_id) if prompt_id is not None else None
        if mailbox is not None:
            mailbox.deliver(event)


def _log_crash(task: asyncio.Task[None]) -> None:
    """Say so when the session ends through a bug; its prompts are polled from then on."""
    if not task.cancelled() and task.exception() is not None:
        log.error("comfyui session crashed", exc_info=task.exception())


def _log_failure(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    log.warning("comfyui socket unavailable", attempt=state.attempt_number, reason=str(error))
