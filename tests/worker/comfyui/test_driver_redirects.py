"""A ComfyUI that sends its caller elsewhere is not followed there: not by any kind of request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from comfy_worker.comfyui.errors import ComfyUnreachableError
from comfy_worker.comfyui.health import Health
from comfy_worker.comfyui.transport import Transport

PLACES = ["{elsewhere}/latest/meta-data/", "//{elsewhere_host}/x", "{elsewhere}/x?a=b#c"]


class Elsewhere:
    """An address nobody shall call."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.calls.append(request.path)
        return web.json_response({"secret": "credentials"})


@pytest.fixture
async def elsewhere() -> AsyncIterator[tuple[Elsewhere, str]]:
    place = Elsewhere()
    async with serving(place.answer) as url:
        yield place, url


class serving:  # noqa: N801  # reads as a function
    """An HTTP server for as long as the block is."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        self._runner = web.AppRunner(application)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def websocket(transport: Transport, _: Path) -> None:
    async with transport.websocket("client", heartbeat=5):
        pass


async def upload(transport: Transport, folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"x")
    await transport.upload("upload/image", file, "x.png", {}, seconds=5)


async def download(transport: Transport, folder: Path) -> None:
    await transport.download(
        "view", {"a": "b"}, folder / "got", max_bytes=99, most_in_memory=0, pause_seconds=5
    )


REQUESTS: list[Callable[[Transport, Path], Awaitable[object]]] = [
    lambda transport, _: transport.get_json("history", seconds=5),
    lambda transport, _: transport.post("prompt", {}, seconds=5),
    upload,
    download,
    websocket,
]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_to_another_address_are_not_followed(
    elsewhere: tuple[Elsewhere, str], tmp_path: Path, status: int
) -> None:
    place, url = elsewhere
    host = url.removeprefix("http://")
    for where in PLACES:
        target = where.format(elsewhere=url, elsewhere_host=host)

        async def away(_: web.Request, target: str = target) -> web.Response:
            return web.Response(status=status, headers={"Location": target})

        async with serving(away) as comfyui:
            for request in REQUESTS:
                async with Transport(comfyui, Health()) as transport:
                    with pytest.raises(ComfyUnreachableError, match=r"another address|not sent"):
                        await asyncio.wait_for(request(transport, tmp_path), 30)
    assert place.calls == []


async def test_a_proxy_may_redirect_to_itself() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/history":
            return web.Response(status=308, headers={"Location": "/history/"})
        return web.json_response({"path": request.path})

    async with serving(answer) as comfyui, Transport(comfyui, Health()) as transport:
        assert await transport.get_json("history", seconds=5) == {"path": "/history/"}
