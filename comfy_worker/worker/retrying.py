"""Calling job_service again, with growing pauses that differ from worker to worker."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)

from comfy_worker.worker.contact import Contact
from comfy_worker.worker.service_errors import (
    CallRefusedError,
    JobServiceError,
    NotAllowedError,
    ServiceUnavailableError,
)

pauses: Final = wait_random_exponential(multiplier=0.1, max=1.5)
"""Seconds before another call: short against a lease, so that none runs out after an outage."""

Answer = TypeVar("Answer")


async def persistently(
    call: Callable[[], Awaitable[Answer]], contact: Contact, *, seconds: float
) -> Answer:
    """Make a call that may be repeated until it is answered, for at most ``seconds``.

    A token that has ended may be replaced: what is not allowed is tried again, too. Raises
    ServiceUnavailableError or NotAllowedError after that, and any other error at once.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception_type((ServiceUnavailableError, NotAllowedError)),
        wait=pauses,
        stop=stop_after_delay(seconds),
        before_sleep=failures_told(contact),
        reraise=True,
    )
    return await _repeated(retrying, call)


async def endlessly(call: Callable[[], Awaitable[Answer]], contact: Contact) -> Answer:
    """Make a call of one of the worker's endless loops until it succeeds.

    What job_service refuses is tried again too: it may be told otherwise, or be updated.
    Raises SupersededError and LeaseLostError.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception_type((ServiceUnavailableError, NotAllowedError, CallRefusedError)),
        wait=pauses,
        stop=stop_never,
        before_sleep=failures_told(contact),
        reraise=True,
    )
    return await _repeated(retrying, call)


def failures_told(contact: Contact) -> Callable[[RetryCallState], None]:
    """What tenacity does before another call: tell ``contact`` of the one that failed."""

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, JobServiceError):
            contact.failed(error)

    return tell


async def _repeated(retrying: AsyncRetrying, call: Callable[[], Awaitable[Answer]]) -> Answer:
    async for attempt in retrying:
        with attempt:
            return await call()
    raise AssertionError  # pragma: no cover - tenacity re-raises the last error
