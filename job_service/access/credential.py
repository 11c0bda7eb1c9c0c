"""A token that somebody calls with: whether it still counts, and which calls hang on it."""

import asyncio
from collections.abc import Callable
from typing import Final

from job_service.access.token import Token
from job_service.jobs.refusals import Refusal, RefusedError

_MESSAGES: Final = {
    Refusal.TOKEN_UNKNOWN: "this token is not known here",
    Refusal.TOKEN_EXPIRED: "this token has expired",
    Refusal.TOKEN_REVOKED: "this token was revoked",
}


def refused(refusal: Refusal) -> RefusedError:
    """What to say to a caller whose token does not count."""
    return RefusedError(refusal, _MESSAGES[refusal])


class Credential:
    """One token. It ends once and for all, and its calls with it.

    ``until``: the event loop's time at which it expires; None: never. ``used_at``: when somebody
    last called with it, by the same clock.
    """

    def __init__(self, token: Token, until: float | None = None) -> None:
        self.token = token
        self.used_at = 0.0
        self._until = until
        self._ended: Refusal | None = None
        self._calls: set[Callable[[], None]] = set()

    @property
    def in_use(self) -> bool:
        """Whether calls hang on it."""
        return bool(self._calls)

    @property
    def ended(self) -> Refusal | None:
        """Why it no longer counts; None: it does."""
        if self._ended is None and self._is_over():
            self._ended = Refusal.TOKEN_EXPIRED
        return self._ended

    def end(self, why: Refusal) -> None:
        """Let it count no longer."""
        if self._ended is None:
            self._ended = why
        self.tell()

    def tell(self) -> None:
        """End its calls if it has ended."""
        if self.ended is not None:
            for call in tuple(self._calls):
                call()

    def hang_on(self, on_end: Callable[[], None]) -> None:
        """Have ``on_end`` called when it ends."""
        self._calls.add(on_end)

    def let_go(self, on_end: Callable[[], None]) -> None:
        """Undo :meth:`hang_on`."""
        self._calls.discard(on_end)

    def _is_over(self) -> bool:
        return self._until is not None and asyncio.get_running_loop().time() >= self._until
