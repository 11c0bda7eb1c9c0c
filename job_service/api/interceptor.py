"""What happens around every call: who calls, bytes to message, errors to statuses.

Requests are parsed here and not by gRPC, which answers unparsable bytes with INTERNAL and a
message over its limit without a word on which limit.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias
from uuid import uuid4

import grpc
import structlog
from google.protobuf.message import DecodeError

from job_service.api.caller import calling
from job_service.api.status import rich_status
from job_service.jobs.limits import MAX_MESSAGE_BYTES
from job_service.jobs.principal import LOCAL, Principal
from job_service.jobs.refusals import Refusal, RefusedError, Violation

#: What the transport lets through, so that a message over our own limit gets a proper answer.
TRANSPORT_LIMIT_BYTES: Final = 2 * MAX_MESSAGE_BYTES

_OURS: Final = "/generation_jobs.v1."

_log = structlog.get_logger()

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of this project's services, each once: a call costs a look-up."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Put the wrapping around the method's handler; None: there is no such method."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_OURS):
            return handler  # type: ignore[return-value]  # grpc takes None for "no such method"
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            wrapped = self._wrapped[method] = _wrapped(handler, method)
        return wrapped


def _principal(_context: Context) -> Principal:
    """Who calls. There is only the local principal until tokens are configured."""
    return LOCAL


def _wrapped(handler: Handler, method: str) -> Handler:
    parse = handler.request_deserializer
    assert parse is not None
    # grpc's handler types describe threads; these behaviours are the asynchronous servicers'.
    behaviour: Any = (
        handler.unary_stream
        if handler.response_streaming
        else handler.stream_unary
        if handler.request_streaming
        else handler.unary_unary
    )

    def decode(request: Any) -> Any:
        if handler.request_streaming:
            return _decoded_stream(request, parse)
        return _decode(parse, request)

    async def unary(request: Any, context: Context) -> Any:
        async with _Served(method, context):
            return await behaviour(decode(request), context)

    async def streaming(request: Any, context: Context) -> AsyncIterator[Any]:
        async with (
            _Served(method, context),
            aclosing(behaviour(decode(request), context)) as responses,
        ):
            async for response in responses:
                yield response

    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            streaming, response_serializer=handler.response_serializer
        )
    make = (
        grpc.stream_unary_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(unary, response_serializer=handler.response_serializer)


class _Served:
    """One call: its principal inside the block; an error that leaves it becomes a status."""

    def __init__(self, method: str, context: Context) -> None:
        self._method = method
        self._calling = calling(_principal(context))
        self._context = context
        self._began = time.monotonic()

    async def __aenter__(self) -> None:
        self._calling.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._calling.__exit__(None, None, None)
        if not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
            return
        refused = _refusal(self._method, error)
        _log.info(
            "call refused",
            method=self._method,
            reason=refused.refusal.reason,
            message=refused.message,
            seconds=round(time.monotonic() - self._began, 3),
        )
        await self._context.abort_with_status(rich_status(refused))


def _refusal(method: str, error: Exception) -> RefusedError:
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, NotImplementedError):
        return RefusedError(Refusal.NOT_IMPLEMENTED, f"{method} is not served by this version")
    reference = uuid4().hex[:12]
    _log.error("call failed", method=method, reference=reference, exc_info=error)
    return RefusedError(
        Refusal.INTERNAL,
        f"internal error; it was logged as {reference}",
        metadata={"reference": reference},
    )


def _decode(parse: Callable[[bytes], Any], raw: bytes) -> Any:
    if len(raw) > MAX_MESSAGE_BYTES:
        limit = f"a message has at most {MAX_MESSAGE_BYTES:,} bytes, this one {len(raw):,}"
        raise RefusedError(
            Refusal.MESSAGE_TOO_LARGE, limit, violations=[Violation("(message)", limit)]
        )
    try:
        return parse(raw)
    except (DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(
            Refusal.MALFORMED_MESSAGE,
            "the request cannot be decoded: it is no message of this type, or holds text that is"
            " not UTF-8",
            violations=[Violation("(message)", "cannot be decoded")],
        ) from error


async def _decoded_stream(
    raw: AsyncIterator[bytes], parse: Callable[[bytes], Any]
) -> AsyncIterator[Any]:
    async for one in raw:
        yield _decode(parse, one)
