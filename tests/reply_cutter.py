"""A proxy in front of a gRPC server that lets a call through and loses its answer."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.breakable_line import pump

# RFC 9113, section 4.1: length (24 bits), type, flags, stream id. A call's answer ends with a
# HEADERS frame that has END_STREAM set: its trailers.
_HEADER: Final = struct.Struct(">HBBBI")
_HEADERS: Final = 0x1
_END_STREAM: Final = 0x1


class ReplyCutter:
    """Forwards connections to ``target``; see ``cut_next``."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._armed = False
        self.address = ""
        self.cuts = 0

    def cut_next(self) -> None:
        """Swallow what the server says from now on, and cut the line once it has answered."""
        self._armed = True

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["ReplyCutter"]:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection(*self._target)
        pumps = {
            asyncio.create_task(pump(reader, downstream)),
            asyncio.create_task(self._answers(upstream, writer)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in pumps:
                one.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            downstream.close()

    async def _answers(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass frames on one by one; armed, drop them until an answer is complete."""
        while True:
            head = await upstream.readexactly(9)
            high, low, kind, flags, stream = _HEADER.unpack(head)
            payload = await upstream.readexactly(high << 8 | low)
            # Stream 0 is the connection's own: without it there would be no call to answer.
            if not self._armed or stream == 0:
                writer.write(head + payload)
                await writer.drain()
            elif kind == _HEADERS and flags & _END_STREAM:
                self._armed = False
                self.cuts += 1
                return
