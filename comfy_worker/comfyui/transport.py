"""HTTP and WebSocket to one ComfyUI, with its faults as this package's errors.

Reading is repeated on passing faults; what may change the server's state is sent once,
because only the caller can find out whether it had an effect.
"""

import hashlib
import json
from asyncio import to_thread
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from yarl import URL

from comfy_worker.comfyui.errors import (
    ComfyUnreachableError,
    OutputTooLargeError,
    UnexpectedAnswerError,
)
from comfy_worker.comfyui.graph_text import write_json
from comfy_worker.comfyui.health import Health

_LARGEST_ANSWER: Final = 128 * 1024 * 1024
_LARGEST_FRAME: Final = 256 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_CONNECT_SECONDS: Final = 5.0
_READ_ATTEMPTS: Final = 3
_LONGEST_EXCERPT: Final = 200


@dataclass(frozen=True, slots=True)
class Download:
    """The body of an answer: its size in bytes, SHA-256 (32 bytes) and media type.

    ``content`` is None when it was written to disk.
    """

    size: int
    sha256: bytes
    media_type: str
    content: bytes | None


class Transport:
    """An async context manager that owns the connections to one server.

    ``url`` may carry a path, as behind a reverse proxy, and credentials for basic
    authentication. Every method raises ComfyUnreachableError when no answer comes, and at
    once while the circuit of ``health`` is open.
    """

    def __init__(self, url: str, health: Health) -> None:
        self._base = URL(url)
        self._health = health
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(middlewares=(self._only_here,))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def ping(self, path: str, *, seconds: float) -> None:
        """Ask for ``path`` once, also while the circuit is open; the health knows the result."""
        with suppress(ComfyUnreachableError, UnexpectedAnswerError):
            await self._exchange("GET", path, seconds, None, probing=True)

    async def get_json(self, path: str, *, seconds: float) -> Any:
        """Read JSON, with up to three attempts; raises UnexpectedAnswerError unless 200."""
        async for attempt in _repeated_reading():
            with attempt:
                status, text = await self._exchange("GET", path, seconds, None)
                if status != 200:
                    raise UnexpectedAnswerError(
                        f"GET /{path} answered {status}: {excerpt(text)}", status=status
                    )
                return json_of(text, status)
        raise AssertionError  # pragma: no cover - tenacity re-raises the last error

    async def post(
        self, path: str, body: Mapping[str, Any], *, seconds: float
    ) -> tuple[int, bytes]:
        """Send JSON once and return the answer's status and body."""
        return await self._exchange("POST", path, seconds, body)

    async def upload(
        self, path: str, source: Path, name: str, fields: Mapping[str, str], *, seconds: float
    ) -> tuple[int, bytes]:
        """Send a file as ``image`` of a form, once; return the answer's status and body."""
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS)
        form = aiohttp.FormData(fields, quote_fields=False)
        with await to_thread(source.open, "rb") as content:
            form.add_field("image", content, filename=name, content_type="application/octet-stream")
            with self._watched(f"POST /{path}"):
                async with self._session.post(
                    self._base.joinpath(path), data=form, timeout=timeout
                ) as response:
                    status, text = response.status, await _read(response, path)
        self._health.answered()
        return status, text

    async def download(
        self,
        path: str,
        query: Mapping[str, str],
        destination: Path,
        *,
        max_bytes: int,
        most_in_memory: int,
        pause_seconds: float,
    ) -> Download:
        """Take an answer's body: into memory, or what is larger to ``destination``.

        Up to three attempts, each overwriting the file, whose folder is made if need be.
        ``pause_seconds`` bounds the time between two chunks. Raises UnexpectedAnswerError unless
        200, and OutputTooLargeError.
        """
        async for attempt in _repeated_reading():
            with attempt:
                timeout = aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_SECONDS, sock_read=pause_seconds
                )
                with self._watched(f"GET /{path}"):
                    async with self._session.get(
                        self._base.joinpath(path).with_query(query), timeout=timeout
                    ) as response:
                        self._health.answered()
                        if response.status != 200:
                            raise UnexpectedAnswerError(
                                f"GET /{path} answered {response.status}", status=response.status
                            )
                        return await _body(response, destination, max_bytes, most_in_memory)
        raise AssertionError  # pragma: no cover - tenacity re-raises the last error

    @asynccontextmanager
    async def websocket(
        self, client_id: str, *, heartbeat: float
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open ``/ws``; frames of up to 256 MiB are taken, a silent peer is pinged."""
        url = self._base.joinpath("ws").with_query(clientId=client_id)
        with _faults_as_unreachable("GET /ws"):
            socket = await self._session.ws_connect(
                url,
                heartbeat=heartbeat,
                max_msg_size=_LARGEST_FRAME,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            )
        async with socket:
            yield socket

    async def _only_here(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Follow no redirect to another address: ComfyUI must not make this machine call one."""
        if request.url.origin() != self._base.origin():
            raise aiohttp.ClientConnectionError("ComfyUI redirects to another address")
        return await handler(request)

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("used outside its async with block")
        return self._http

    async def _exchange(
        self,
        method: str,
        path: str,
        seconds: float,
        body: Mapping[str, Any] | None,
        *,
        probing: bool = False,
    ) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS)
        content = None if body is None else write_json(body).encode()
        headers = None if body is None else {"Content-Type": "application/json"}
        with self._watched(f"{method} /{path}", probing=probing):
            async with self._session.request(
                method, self._base.joinpath(path), data=content, headers=headers, timeout=timeout
            ) as response:
                status, text = response.status, await _read(response, path)
        self._health.answered()
        return status, text

    @contextmanager
    def _watched(self, request: str, *, probing: bool = False) -> Iterator[None]:
        if self._health.is_open and not probing:
            raise ComfyUnreachableError(
                f"{request}: not sent, ComfyUI has stopped answering", may_have_arrived=False
            )
        try:
            with _faults_as_unreachable(request):
                yield
        except ComfyUnreachableError as error:
            self._health.unanswered(str(error))
            raise


def json_of(text: bytes, status: int) -> Any:
    """Parse an answer, NaN included; raises UnexpectedAnswerError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnexpectedAnswerError(f"not JSON: {excerpt(text)}", status=status) from error


def excerpt(text: bytes) -> str:
    """Return the start of an answer, for an error message."""
    return text[:_LONGEST_EXCERPT].decode(errors="replace")


async def _read(response: aiohttp.ClientResponse, path: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        size += len(chunk)
        if size > _LARGEST_ANSWER:
            raise UnexpectedAnswerError(
                f"/{path} answered more than {_LARGEST_ANSWER} bytes", status=response.status
            )
        parts.append(chunk)
    return b"".join(parts)


async def _body(
    response: aiohttp.ClientResponse, destination: Path, max_bytes: int, most_in_memory: int
) -> Download:
    digest = hashlib.sha256()
    size = 0
    kept: list[bytes] = []
    target: BinaryIO | None = None
    try:
        async for chunk in response.content.iter_chunked(_CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise OutputTooLargeError(f"the file exceeds {max_bytes} bytes")
            digest.update(chunk)
            kept.append(chunk)
            if size > most_in_memory:
                if target is None:
                    target = await to_thread(_opened_anew, destination)
                await to_thread(target.writelines, kept)
                kept.clear()
    finally:
        if target is not None:
            await to_thread(target.close)
    content = b"".join(kept) if target is None else None
    return Download(size, digest.digest(), response.content_type, content)


def _opened_anew(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return path.open("wb")


def _repeated_reading() -> AsyncRetrying:
    return AsyncRetrying(
        stop=stop_after_attempt(_READ_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=1.0),
        retry=retry_if_exception(_is_passing),
        reraise=True,
    )


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, ComfyUnreachableError) or (
        isinstance(error, UnexpectedAnswerError) and error.status >= 500
    )


@contextmanager
def _faults_as_unreachable(request: str) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        never_connected = isinstance(
            error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
        )
        raise ComfyUnreachableError(
            f"{request}: {type(error).__name__} {error}".rstrip(),
            may_have_arrived=not never_connected,
        ) from error
