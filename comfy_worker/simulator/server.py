"""The simulator: an HTTP and WebSocket server that behaves like a ComfyUI."""

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from comfy_worker.simulator.faults import Faults
from comfy_worker.simulator.history import History
from comfy_worker.simulator.interruption import Interruption
from comfy_worker.simulator.machinery import Machinery
from comfy_worker.simulator.nodes import node_classes
from comfy_worker.simulator.prompt_queue import PromptQueue
from comfy_worker.simulator.result_cache import ResultCache
from comfy_worker.simulator.routes.files import FileRoutes
from comfy_worker.simulator.routes.info import InfoRoutes
from comfy_worker.simulator.routes.jobs import JobRoutes
from comfy_worker.simulator.routes.prompts import PromptRoutes
from comfy_worker.simulator.settings import SimulatorSettings
from comfy_worker.simulator.signals import Signals
from comfy_worker.simulator.storage import Storage
from comfy_worker.simulator.websocket import SERVER_FEATURES, Sockets
from comfy_worker.simulator.worker import PromptWorker

# What bodies and files of the wrong shape raise in handlers; ComfyUI catches none of it.
UNCAUGHT = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)

SHUTDOWN_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Simulator:
    """A ComfyUI without a GPU, as an asynchronous context manager.

    Queue, history and cached results live in memory and end with it; files stay in the output
    directory if the settings name one. Entering starts the server, leaving cuts all connections
    as a killed server does.

    Attributes:
        settings: What it was made with.
        faults: The traps, switchable at any time.
        signals: What has happened, and waits for what shall happen.

    """

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        self.faults = Faults()
        self.signals = Signals()
        self._port = self.settings.port
        self._stack = contextlib.AsyncExitStack()
        self._storage: Storage

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self.settings.host

    @property
    def port(self) -> int:
        """The port it listens on; the real one once it is entered."""
        return self._port

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Start the server.

        Raises:
            OSError: The address is in use, or not of this machine.

        """
        self._storage = Storage(self.settings)
        try:
            await self.restart()
        except BaseException:
            self._storage.close()
            raise
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        await self.kill()
        self._storage.close()

    async def kill(self) -> None:
        """Cut all connections and forget queue, history and results; files stay (recording 09)."""
        await self._stack.aclose()

    async def restart(self) -> None:
        """Serve again after a kill, at the same URL."""
        async with contextlib.AsyncExitStack() as stack:
            sockets = Sockets(self.faults, self.signals)
            queue = PromptQueue(lambda: sockets.send("status", {"status": _status(queue)}))
            history = History()
            machinery = Machinery(
                settings=self.settings,
                faults=self.faults,
                signals=self.signals,
                storage=self._storage,
                sockets=sockets,
                classes=node_classes(probes=self.settings.probe_nodes),
                cache=ResultCache(),
                interruption=Interruption(),
            )
            worker = PromptWorker(machinery, queue, history)
            runner = web.AppRunner(
                _application(machinery, queue, history, worker),
                access_log=None,
                shutdown_timeout=SHUTDOWN_SECONDS,
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, self.host, self._port)
            await site.start()
            self._port = runner.addresses[0][1]
            stack.callback(sockets.abort)
            for work in (sockets.deliver(), worker.work()):
                task = asyncio.create_task(work)
                task.add_done_callback(_log_crash)
                stack.push_async_callback(_cancel, task)
            self._stack = stack.pop_all()


def _application(
    machinery: Machinery, queue: PromptQueue, history: History, worker: PromptWorker
) -> web.Application:
    async def serve_socket(request: web.Request) -> web.StreamResponse:
        return await machinery.sockets.serve(request, _status(queue))

    async def not_found(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, content_type="application/octet-stream")

    routes = [
        web.get("/ws", serve_socket),
        *PromptRoutes(machinery, queue, history, worker).table(),
        *JobRoutes(machinery, queue, history).table(),
        *FileRoutes(machinery.storage, machinery.faults).table(),
        *InfoRoutes(machinery).table(),
    ]
    application = web.Application(
        middlewares=[_misbehave(machinery.faults), _answer_500],
        client_max_size=SERVER_FEATURES["max_upload_size"],
    )
    application.add_routes(routes)
    application.add_routes(
        [web.route(each.method, f"/api{each.path}", each.handler) for each in routes]
    )
    application.add_routes([web.get("/{path:.*}", not_found)])
    return application


def _misbehave(faults: Faults) -> Middleware:
    @web.middleware
    async def misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
        await faults.until_thawed()
        if faults.failing_requests > 0:
            faults.failing_requests -= 1
            return _internal_error()
        return await handler(request)

    return misbehave


@web.middleware
async def _answer_500(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what a handler did not expect as ComfyUI does: 500 in plain text."""
    try:
        return await handler(request)
    except UNCAUGHT as error:
        if "Upgrade" in request.headers:  # the connection speaks WebSocket by now
            raise
        logger.info("%s %s answers 500: %r", request.method, request.path, error)
        return _internal_error()


def _internal_error() -> web.Response:
    text = "500 Internal Server Error\n\nServer got itself in trouble"
    return web.Response(status=500, text=text)


def _status(queue: PromptQueue) -> dict[str, Any]:
    return {"exec_info": {"queue_remaining": queue.remaining}}


def _log_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("the simulator has crashed", exc_info=task.exception())


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
