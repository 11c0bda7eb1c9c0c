"""One server stream, read message by message, with silence told from patience."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import grpc

from job_service.client.errors import JobServiceError

# Three keep-alives missed, in seconds: the service sends one every 15 (WatchJob, WatchJobs).
SILENCE = 45.0

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class ResponseStream(Generic[_Request, _Response]):
    """The messages of one call. Closing is safe at any time; garbage collection is not."""

    def __init__(
        self, call: "grpc.aio.UnaryStreamCall[_Request, _Response]", silence: float
    ) -> None:
        """Read ``call``; ``silence`` seconds without a message mean the connection is dead."""
        self._call = call
        self._messages: AsyncIterator[_Response] = aiter(call)
        self._silence = silence

    async def next(self) -> _Response | None:
        """Answer the next message, or None at the regular end.

        Raises JobServiceError; with status UNAVAILABLE also when nothing came for too long.
        """
        try:
            async with asyncio.timeout(self._silence):
                return await anext(self._messages, None)
        except TimeoutError as error:
            raise JobServiceError(
                grpc.StatusCode.UNAVAILABLE, f"nothing was heard for {self._silence:g} seconds"
            ) from error
        except grpc.aio.AioRpcError as error:
            raise JobServiceError.from_rpc_error(error) from error

    def close(self) -> None:
        """Tell the server that nobody listens any more."""
        self._call.cancel()
