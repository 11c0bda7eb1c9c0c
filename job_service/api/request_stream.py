"""What a client sends in pieces, and how it comes to hear that it need not have.

A client of grpc.aio whose write meets a call that has ended loses the answer it was ended with, and
reports INTERNAL, "Internal error from Core" (grpc issue 36066). So a refusal waits until the client
has sent the rest, unless that is too much or takes too long: such a client may miss the reason.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

#: Of a refused call, read and thrown away at most: an endless sender is cut off.
_DRAINED_BYTES: Final = 64 * 1024**2
_DRAINED_SECONDS: Final = 10.0


class RequestStream:
    """The messages of one call as bytes. Reads by several tasks take turns."""

    def __init__(self, messages: AsyncIterator[bytes]) -> None:
        self._messages = aiter(messages)
        self._reading = asyncio.Lock()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        async with self._reading:
            return await anext(self._messages)

    async def drain(self) -> None:
        """Read what the client still sends and throw it away."""
        rest = _DRAINED_BYTES
        try:
            async with asyncio.timeout(_DRAINED_SECONDS):
                async for message in self:
                    rest -= len(message)
                    if rest < 0:
                        return
        except TimeoutError:
            return


async def decoded(stream: RequestStream, decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """The messages of ``stream`` as ``decode`` makes them."""
    async for message in stream:
        yield decode(message)
