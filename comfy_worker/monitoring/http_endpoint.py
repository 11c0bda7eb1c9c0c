"""A worker's /metrics, /livez and /readyz over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from comfy_worker.cannot_run import CannotRunError
from comfy_worker.monitoring.counted import Counted
from comfy_worker.monitoring.sampled import Sampled
from comfy_worker.monitoring.state import WorkerState, problems

_LAG_INTERVAL: Final = 1.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def monitored(
    listen: str | None, counted: Counted, read: Callable[[], WorkerState]
) -> AsyncIterator[None]:
    """Answer on ``listen`` while the block is open; None: nowhere.

    Raises CannotRunError when the address cannot be listened on.
    """
    if listen is None:
        yield
        return
    counted.registry.register(Sampled(read))
    ProcessCollector(registry=counted.registry)
    runner = web.AppRunner(
        _application(counted.registry, read),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=1,
    )
    await runner.setup()
    lag = asyncio.create_task(_watch_lag(counted.loop_lagged), name="event loop lag")
    try:
        host, _, port = listen.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise CannotRunError(f"cannot listen on {listen} for metrics: {error}") from error
        log.info("metrics served", address=listen)
        yield
    finally:
        lag.cancel()
        await runner.cleanup()


def _application(registry: CollectorRegistry, read: Callable[[], WorkerState]) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        found = problems(read())
        if found:
            return web.Response(status=503, text="\n".join([*found, ""]))
        return web.Response(text="ok\n")

    app = web.Application()
    for path, handler in (("/metrics", metrics), ("/livez", livez), ("/readyz", readyz)):
        app.router.add_get(path, handler)
    return app


async def _watch_lag(heard: Callable[[float], None]) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        asleep_since = clock()
        await asyncio.sleep(_LAG_INTERVAL)
        heard(max(0.0, clock() - asleep_since - _LAG_INTERVAL))
