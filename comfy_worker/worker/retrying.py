"""Calling job_service again, with growing pauses that differ from worker to worker."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)

from comfy_worker.worker.service_errors import (
    CallRefusedError,
    NotAllowedError,
    ServiceUnavailableError,
)

pauses: Final = wait_random_exponential(multiplier=0.1, max=1.5)
"""Seconds before another call: short against a lease, so that none runs out after an outage."""

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


async def persistently(call: Callable[[], Awaitable[Answer]], *, seconds: float) -> Answer:
    """Make a call that may be repeated until it is answered, for at most ``seconds``.

    A token that has ended may be replaced: what is not allowed is tried again, too. Raises
    ServiceUnavailableError or NotAllowedError after that, and any other error at once.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception_type((ServiceUnavailableError, NotAllowedError)),
        wait=pauses,
        stop=stop_after_delay(seconds),
        before_sleep=_log,
        reraise=True,
    )
    return await _repeated(retrying, call)


async def endlessly(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Make a call of one of the worker's endless loops until it succeeds.

    What job_service refuses is tried again too: it may be told otherwise, or be updated.
    Raises SupersededError and LeaseLostError.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception_type((ServiceUnavailableError, NotAllowedError, CallRefusedError)),
        wait=pauses,
        stop=stop_never,
        before_sleep=_log,
        reraise=True,
    )
    return await _repeated(retrying, call)


async def _repeated(retrying: AsyncRetrying, call: Callable[[], Awaitable[Answer]]) -> Answer:
    async for attempt in retrying:
        with attempt:
            return await call()
    raise AssertionError  # pragma: no cover - tenacity re-raises the last error


def _log(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    log.warning("job_service gives no answer", attempt=state.attempt_number, reason=str(error))
