"""/metrics, /livez and /readyz over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from job_service.cannot_run import CannotRunError


@asynccontextmanager
async def http_endpoint(
    listen: str,
    registry: CollectorRegistry,
    *,
    refresh: Callable[[], Awaitable[None]],
    problems: Callable[[], Awaitable[Sequence[str]]],
) -> AsyncIterator[None]:
    """Answer on ``listen`` while the block is open.

    ``refresh`` comes before every look at the registry; ``problems`` says what keeps this process
    from being ready. Raises CannotRunError when the address cannot be listened on.
    """

    async def metrics(request: web.Request) -> web.Response:
        await refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # Some milliseconds for thousands of series, which no call should wait for.
        body = await asyncio.to_thread(encode, registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        found = await problems()
        if found:
            return web.Response(status=503, text="".join(f"{line}\n" for line in found))
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes(
        [web.get("/metrics", metrics), web.get("/livez", livez), web.get("/readyz", readyz)]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        host, _, port = listen.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise CannotRunError(f"cannot listen on {listen} for metrics: {error}") from error
        yield
    finally:
        await runner.cleanup()
