"""A reverse proxy in front of a ComfyUI, for faults a server does not have by itself."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from aiohttp import web

_NOTHING_KNOWN: Final[dict[str, dict[str, list[str]]]] = {
    "GET /queue": {"queue_running": [], "queue_pending": []},
    "GET /history": {},
}


class ComfyProxy:
    """Forwards HTTP and WebSocket to ``upstream``; each fault is switchable at any time.

    - ``lost_requests``: so many ``POST /prompt`` are cut off before they arrive.
    - ``thawed``: while cleared, nothing is answered.
    - ``swallowed``: text frames with this in them do not reach the client.
    - ``delayed``: requests such as "POST /interrupt" that go on only when their event is set.
    - ``requests``: how often each method and first path segment was asked for.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.url = ""
        self.lost_requests = 0
        self._forgetful_until: dict[str, int] = {}
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.swallowed: str | None = None
        self.delayed: dict[str, asyncio.Event] = {}
        self.requests: Counter[str] = Counter()
        self.client_ids: list[str] = []
        self._asked = asyncio.Condition()
        self._sockets: list[web.WebSocketResponse] = []
        self._http: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["ComfyProxy"]:
        """Serve on a free port of 127.0.0.1."""
        app = web.Application(client_max_size=2**30)
        app.add_routes([web.get("/ws", self._bridge), web.route("*", "/{path:.*}", self._forward)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        async with aiohttp.ClientSession() as self._http:
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield self
            finally:
                self.thawed.set()
                await runner.cleanup()

    async def asked_for(self, request: str, *, times: int = 1) -> None:
        """Wait until such a request has come so many times; see ``requests``."""
        async with self._asked:
            await self._asked.wait_for(lambda: self.requests[request] >= times)

    def forget_once(self) -> None:
        """Answer the next look at the queue, and the next at the history, as if just started."""
        self._forgetful_until = {name: self.requests[name] + 1 for name in _NOTHING_KNOWN}

    async def cut_sockets(self) -> None:
        """Close every WebSocket."""
        for socket in list(self._sockets):
            await socket.close()

    async def send_to_sockets(self, frame: str | bytes) -> None:
        """Send a frame of the test's own to every WebSocket."""
        for socket in self._sockets:
            if isinstance(frame, str):
                await socket.send_str(frame)
            else:
                await socket.send_bytes(frame)

    async def _note(self, request: str) -> None:
        async with self._asked:
            self.requests[request] += 1
            self._asked.notify_all()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        name = f"{request.method} /{request.path.split('/')[1]}"
        await self._note(name)
        await self.thawed.wait()
        if name in self.delayed:
            await self.delayed[name].wait()
        body = await request.read()
        if self.requests[name] <= self._forgetful_until.get(name, 0):
            return web.json_response(_NOTHING_KNOWN[name])
        is_prompt = (request.method, request.path) == ("POST", "/prompt")
        if is_prompt and self.lost_requests:
            self.lost_requests -= 1
            return _cut(request)
        async with self._http.request(
            request.method, self._upstream + request.path_qs, data=body
        ) as response:
            answer = await response.read()
            status, content_type = response.status, response.content_type
        return web.Response(status=status, body=answer, content_type=content_type)

    async def _bridge(self, request: web.Request) -> web.StreamResponse:
        self.client_ids.append(request.query["clientId"])
        await self._note("GET /ws")
        await self.thawed.wait()
        async with self._http.ws_connect(
            self._upstream + request.path_qs, max_msg_size=0
        ) as upstream:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            self._sockets.append(socket)
            try:
                downwards = asyncio.create_task(self._pump(upstream, socket))
                async for message in socket:
                    await upstream.send_str(message.data)
                downwards.cancel()
            finally:
                self._sockets.remove(socket)
        return socket

    async def _pump(
        self, source: aiohttp.ClientWebSocketResponse, target: web.WebSocketResponse
    ) -> None:
        async for message in source:
            if message.type is aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif self.swallowed is None or self.swallowed not in message.data:
                await target.send_str(message.data)
        await target.close()


def _cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
