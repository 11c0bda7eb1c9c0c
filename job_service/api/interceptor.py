"""What happens around every call: who calls, bytes to message, errors to statuses.

Requests are parsed here and not by gRPC, which answers unparsable bytes with INTERNAL and a
message over its limit without a word on which limit.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Final, NoReturn, Self
from uuid import uuid4

import grpc
import structlog
from google.protobuf.message import DecodeError

from job_service.access.credential import refused as token_refused
from job_service.api.audit import Audit
from job_service.api.call_budget import CallBudget
from job_service.api.call_kind import SERVICES
from job_service.api.call_observer import CallObserver
from job_service.api.caller import calling, principal
from job_service.api.gate import Admitted, Gate
from job_service.api.logged_job import note_job
from job_service.api.request_stream import RequestStream, decoded
from job_service.api.rpc_handler import Handler, behaviour_of, served_by
from job_service.api.status import rich_status
from job_service.jobs.refusals import Refusal, RefusedError, Violation

_REFLECTION: Final = "/grpc.reflection."

_log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of this project's services, each once: a call costs a look-up."""

    def __init__(
        self, gate: Gate, observer: CallObserver, budget: CallBudget, max_message_bytes: int
    ) -> None:
        self._gate = gate
        self._observer = observer
        self._budget = budget
        self._max_message_bytes = max_message_bytes
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Put the wrapping around the method's handler; None: there is no such method."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith((SERVICES, _REFLECTION)):
            return handler  # type: ignore[return-value]  # grpc takes None for "no such method"
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            wrapped = self._wrapped[method] = self._wrap(handler, method)
        return wrapped

    def _wrap(self, handler: Handler, method: str) -> Handler:
        if not method.startswith(SERVICES):
            return _for_whoever_is_known(handler, method, self._gate)
        served = _wrapped(handler, method, self._gate, self._budget, self._max_message_bytes)
        return self._observer.observed(served, method)


def _wrapped(
    handler: Handler, method: str, gate: Gate, budget: CallBudget, max_message_bytes: int
) -> Handler:
    parse = handler.request_deserializer
    assert parse is not None
    behaviour = behaviour_of(handler)

    def decode(request: Any) -> Any:
        return _decode(parse, request, max_message_bytes)

    async def unary(request: Any, context: Context) -> Any:
        async with _Served(method, context, gate) as served:
            response = await behaviour(served.asked(decode(request)), context)
            return served.answered(response)

    async def uploading(request: Any, context: Context) -> Any:
        stream = RequestStream(request)
        async with _Served(method, context, gate, stream) as served:
            with budget.stream(principal()):
                response = await behaviour(served.asked(decoded(stream, decode)), context)
            return served.answered(response)

    async def streaming(request: Any, context: Context) -> AsyncIterator[Any]:
        async with _Served(method, context, gate) as served:
            with budget.stream(principal()):
                asked = served.asked(decode(request))
                async with aclosing(behaviour(asked, context)) as responses:
                    async for response in responses:
                        with served.sending():
                            yield response

    serve: Any = (
        streaming
        if handler.response_streaming
        else uploading
        if handler.request_streaming
        else unary
    )
    return served_by(serve, handler, request_deserializer=None)  # the bytes are parsed here


def _for_whoever_is_known(handler: Handler, method: str, gate: Gate) -> Handler:
    """Reflection, for every role; health is for everybody, and has no wrapping."""
    behaviour = behaviour_of(handler)

    async def streaming(requests: Any, context: Context) -> AsyncIterator[Any]:
        try:
            await gate.identify(context.invocation_metadata() or ())
        except Exception as error:  # noqa: BLE001  # whatever it is becomes a status
            await context.abort_with_status(rich_status(_refusal(method, error)))
        async for response in behaviour(requests, context):
            yield response

    return served_by(streaming, handler, handler.request_deserializer)


class _Served:
    """One call: its principal inside the block; an error that leaves it becomes a status.

    Whoever may not make the call does not get in. When the caller's token ends, the call does.
    """

    def __init__(
        self, method: str, context: Context, gate: Gate, stream: RequestStream | None = None
    ) -> None:
        self._method = method
        self._context = context
        self._stream = stream
        self._gate = gate
        self._audit = Audit.of(method)
        self._admitted: Admitted | None = None
        self._task = asyncio.current_task()
        self._interruptible = True
        self._interrupted = False
        self._began = time.monotonic()

    async def __aenter__(self) -> Self:
        try:
            await self._admit()
        except Exception as error:  # noqa: BLE001  # whatever it is becomes a status
            await self._refuse(error)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._admitted is not None and self._admitted.credential is not None:
            self._admitted.credential.let_go(self._interrupt)
        if self._interrupted and await self._absorb_cancellation(error):
            error = self._token_ended()
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            await self._refuse(error)
        elif self._audit is not None and error is None:
            self._audit.done()

    def asked(self, request: Any) -> Any:
        """Note the request; answers it."""
        note_job(request)
        if self._audit is not None:
            self._audit.asked(request)
        return request

    def answered(self, response: Any) -> Any:
        """Note the response; answers it."""
        if self._audit is not None:
            self._audit.answered(response)
        return response

    @contextmanager
    def sending(self) -> Iterator[None]:
        """A response is on its way, in gRPC's hands. Raises RefusedError: the token has ended."""
        self._interruptible = False
        yield
        self._interruptible = True
        if self._interrupted:
            raise self._token_ended()

    async def _admit(self) -> None:
        admitted = await self._gate.identify(self._context.invocation_metadata() or ())
        if self._audit is not None:
            self._audit.caller = admitted.principal
        self._gate.require(self._method, admitted.principal)
        self._admitted = admitted
        calling(admitted.principal)
        if admitted.credential is not None:
            admitted.credential.hang_on(self._interrupt)

    def _interrupt(self) -> None:
        if self._interrupted:
            return
        self._interrupted = True
        if self._interruptible and self._task is not None:
            self._task.cancel()

    async def _absorb_cancellation(self, error: BaseException | None) -> bool:
        """Undo what :meth:`_interrupt` did to the task; whether it broke the call off."""
        if self._task is None or not self._task.cancelling():
            return False
        broken_off = isinstance(error, asyncio.CancelledError)
        if not broken_off:  # the call ended by itself before the cancellation arrived
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        self._task.uncancel()
        return broken_off

    def _token_ended(self) -> RefusedError:
        assert self._admitted is not None
        assert self._admitted.credential is not None
        return token_refused(self._admitted.credential.ended or Refusal.TOKEN_REVOKED)

    async def _refuse(self, error: Exception) -> NoReturn:
        refused = _refusal(self._method, error)
        # What is said of a field may quote it.
        about = (
            {"fields": [one.field for one in refused.violations[:5]]}
            if refused.violations
            else {"message": refused.message}
        )
        _log.info(
            "call refused",
            method=self._method,
            reason=refused.refusal.reason,
            **about,
            seconds=round(time.monotonic() - self._began, 3),
        )
        if self._audit is not None:
            self._audit.refused(refused)
        if self._stream is not None:
            await self._stream.drain()
        await self._context.abort_with_status(
            rich_status(refused, self._context.trailing_metadata())
        )
        raise AssertionError("abort_with_status raises")


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


def _decode(parse: Callable[[bytes], Any], raw: bytes, max_bytes: int) -> Any:
    if len(raw) > max_bytes:
        limit = f"a message has at most {max_bytes:,} bytes, this one {len(raw):,}"
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
