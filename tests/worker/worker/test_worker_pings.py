"""A worker finds out that its connection is dead although nobody has closed it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import pytest

from comfy_worker.settings import Settings
from tests.fuzz.raw_http2 import PING, PREFACE, settings
from tests.worker.worker.conftest import StartWorker

pytestmark = pytest.mark.heavy


class SilentPeer:
    """Takes a connection and its calls, and answers nothing; ``pinged`` is set by a PING."""

    def __init__(self) -> None:
        self.address = ""
        self.pinged = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["SilentPeer"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._hear(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError), closing(writer):
            writer.write(settings())
            await reader.readexactly(len(PREFACE))
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3]))
                if head[3] == PING:
                    self.pinged.set()


async def test_a_silent_connection_is_pinged_at_the_interval(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Settings().ping_interval.total_seconds()
    async with SilentPeer().listening() as seldom, SilentPeer().listening() as often:
        start_worker(name="seldom", job_service=seldom.address)
        monkeypatch.setenv("COMFY_WORKER_PING_INTERVAL", "10")
        start_worker(name="often", job_service=often.address)
        async with asyncio.timeout(usual):
            await often.pinged.wait()
        assert not seldom.pinged.is_set()
