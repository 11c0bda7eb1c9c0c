"""The outermost layer of every call: its request id, its place in the budget, how it ended."""

import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import grpc
import structlog

from job_service.api.call_budget import CallBudget
from job_service.api.call_kind import CallKind, kind_of
from job_service.api.rpc_handler import Handler, behaviour_of, served_by
from job_service.api.status import rich_status
from job_service.jobs.refusals import RefusedError

#: Metadata of request and answer.
REQUEST_ID: Final = "x-request-id"
_USABLE: Final = re.compile(r"[!-~]{1,128}")

_log = structlog.get_logger(__name__)
_level: Final = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A call that has been served. ``method`` is its full name, ``code`` that of a gRPC status."""

    method: str
    kind: CallKind
    code: str
    seconds: float


class CallObserver:
    """Puts the outermost layer around handlers.

    The request id is the caller's (``x-request-id``, up to 128 printable characters) or drawn. It
    is in every line that is logged while the call is served, and in the answer's trailing
    metadata. ``on_end`` hears of every call when it has ended.
    """

    def __init__(self, budget: CallBudget, on_end: Callable[[CallEnd], None]) -> None:
        self._budget = budget
        self._on_end = on_end

    def observed(self, handler: Handler, method: str) -> Handler:
        """The same handler, with this layer around it.

        Without context managers and generators where it can be: every call pays for this.
        """
        kind = kind_of(method)
        budget = self._budget
        behaviour = behaviour_of(handler)

        async def unary(request: Any, context: Context) -> Any:
            began = time.monotonic()
            _identify(context)
            error: BaseException | None = None
            try:
                await self._begin(kind, context)
                try:
                    return await behaviour(request, context)
                finally:
                    budget.leave(kind)
            except BaseException as left:
                error = left
                raise
            finally:
                self._end(method, kind, context, error, began)

        async def streaming(request: Any, context: Context) -> AsyncIterator[Any]:
            began = time.monotonic()
            _identify(context)
            error: BaseException | None = None
            try:
                await self._begin(kind, context)
                try:
                    async with aclosing(behaviour(request, context)) as responses:
                        async for response in responses:
                            yield response
                finally:
                    budget.leave(kind)
            except BaseException as left:
                error = left
                raise
            finally:
                self._end(method, kind, context, error, began)

        serve: Any = streaming if handler.response_streaming else unary
        return served_by(serve, handler, handler.request_deserializer)

    async def _begin(self, kind: CallKind, context: Context) -> None:
        try:
            self._budget.enter(kind)
        except RefusedError as refused:
            async with self._budget.refusing():
                await context.abort_with_status(rich_status(refused, context.trailing_metadata()))

    def _end(
        self,
        method: str,
        kind: CallKind,
        context: Context,
        error: BaseException | None,
        began: float,
    ) -> None:
        seconds = time.monotonic() - began
        code = _code(context, error)
        if _level.isEnabledFor(logging.DEBUG):
            _log.debug("call served", method=method, code=code, seconds=round(seconds, 4))
        self._on_end(CallEnd(method, kind, code, seconds))


def _identify(context: Context) -> None:
    request_id = _request_id(context)
    # Each call has a task with a context of its own, so that nothing has to be taken back.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    context.set_trailing_metadata(((REQUEST_ID, request_id),))


def _request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _USABLE.fullmatch(value):
            return value
    return token_hex(8)


def _code(context: Context, error: BaseException | None) -> str:
    """How a call has ended, as far as this side knows: the name of a gRPC status."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    if error is None:
        return "OK"
    if isinstance(error, Exception):
        return "UNKNOWN"
    # The caller is gone: the call was cancelled, or left as a stream that nobody reads.
    left = context.time_remaining()
    return "DEADLINE_EXCEEDED" if left is not None and left <= 0 else "CANCELLED"
