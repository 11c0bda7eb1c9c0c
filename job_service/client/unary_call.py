"""One unary call: a deadline, a typed error, and once more where that is safe."""

from functools import partial
from typing import TypeVar

import grpc

from job_service.client.errors import JobServiceError
from job_service.client.retrying import until_available

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

#: Seconds for a call that reads.
READ_DEADLINE = 10.0
#: Seconds for a call that changes something.
WRITE_DEADLINE = 30.0


async def answer(
    method: "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]",
    request: _Request,
    deadline: float,
) -> _Response:
    """Call once. Raises JobServiceError."""
    try:
        return await method(request, timeout=deadline)
    except grpc.aio.AioRpcError as error:
        raise JobServiceError.from_rpc_error(error) from error


async def repeated_answer(
    method: "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]",
    request: _Request,
    deadline: float,
    patience: float,
) -> _Response:
    """Make a call that is safe to repeat, for ``patience`` seconds while it is UNAVAILABLE.

    ``deadline`` is for each try. Raises JobServiceError.
    """
    return await until_available(partial(answer, method, request, deadline), patience)
