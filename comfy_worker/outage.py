"""An outage in the log: one story in few lines, however many calls meet it."""

import time
from collections.abc import Callable
from typing import Final

import structlog
from tenacity import RetryCallState

_BETWEEN_WARNINGS: Final = 30.0
"""Seconds. What fails and succeeds in turn does not write more either."""


class Outage:
    """Logs that it ``begins``, from time to time that it ``lasts``, and that it ``ends``.

    These are the texts of the lines. Two warnings are at least half a minute apart: an outage
    that begins sooner after another is told of once that time is over, if it still lasts.
    """

    def __init__(
        self,
        log: structlog.typing.FilteringBoundLogger,
        *,
        begins: str,
        lasts: str,
        ends: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._begins = begins
        self._lasts = lasts
        self._ends = ends
        self._clock = clock
        self._since: float | None = None
        self._warned_at = float("-inf")

    @property
    def is_on(self) -> bool:
        """Whether the last that was heard is a failure."""
        return self._since is not None

    def failed(self, reason: str) -> None:
        """Note that a call failed."""
        now = self._clock()
        if self._since is None:
            self._since = now
        if now - self._warned_at < _BETWEEN_WARNINGS:
            return
        self._warned_at = now
        if now == self._since:
            self._log.warning(self._begins, reason=reason)
        else:
            self._log.warning(self._lasts, seconds=round(now - self._since), reason=reason)

    def failed_call(self, state: RetryCallState) -> None:
        """What tenacity does before another call: note the one that failed."""
        self.failed(str(state.outcome and state.outcome.exception()))

    def over(self) -> None:
        """Note that a call succeeded."""
        since, self._since = self._since, None
        if since is not None and self._warned_at >= since:
            self._log.info(self._ends, seconds=round(self._clock() - since))
