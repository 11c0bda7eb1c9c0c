"""When a call is made again: the service said UNAVAILABLE, or nobody answered the door."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import grpc
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from job_service.client.errors import JobServiceError

_Answer = TypeVar("_Answer")

_backoff = wait_random_exponential(multiplier=0.1, max=3)


async def until_available(
    call: Callable[[], Coroutine[Any, Any, _Answer]],
    patience: float,
    on_retry: Callable[[JobServiceError], None] | None = None,
) -> _Answer:
    """Make a call that is safe to repeat until it is answered.

    It is repeated for ``patience`` seconds after its first failure; then the last failure is
    raised. ``on_retry`` hears each failure that another attempt follows.
    """

    def tell(state: RetryCallState) -> None:
        error = _failure(state)
        if on_retry is not None and error is not None:
            on_retry(error)

    retrying = AsyncRetrying(
        retry=retry_if_exception(_is_unavailable),
        wait=_wait,
        stop=_OutOfPatience(patience),
        before_sleep=tell,
        reraise=True,
    )
    answer: _Answer = await retrying(call)
    return answer


class _OutOfPatience:
    """Counts from the first failure: a stream may be silent for long before it breaks."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._first_failure = 0.0

    def __call__(self, state: RetryCallState) -> bool:
        failed_at = state.outcome_timestamp or 0.0
        if state.attempt_number == 1:
            self._first_failure = failed_at
        return failed_at + state.upcoming_sleep - self._first_failure > self._patience


def _wait(state: RetryCallState) -> float:
    error = _failure(state)
    asked_for = error.retry_delay.total_seconds() if error and error.retry_delay else 0.0
    return max(asked_for, _backoff(state))


def _failure(state: RetryCallState) -> JobServiceError | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, JobServiceError) else None


def _is_unavailable(error: BaseException) -> bool:
    """Also CANCELLED without a reason: a proxy that was stopped under the call.

    Whoever cancels a call here gets asyncio.CancelledError.
    """
    if not isinstance(error, JobServiceError):
        return False
    broken = error.status is grpc.StatusCode.CANCELLED and not error.reason
    return broken or error.status is grpc.StatusCode.UNAVAILABLE
