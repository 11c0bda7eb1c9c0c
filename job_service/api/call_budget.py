"""How many calls are served at once: by kind, and streams by principal."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from job_service.api.call_kind import CallKind
from job_service.jobs.limits import CallLimits
from job_service.jobs.principal import Principal
from job_service.jobs.refusals import Refusal, RefusedError

#: When a caller may try again; by then another replica may have been found, too.
_LATER: Final = timedelta(seconds=1)


class CallBudget:
    """Counts the calls being served, and refuses those beyond the limits.

    For one event loop: nothing here waits.
    """

    def __init__(self, limits: CallLimits) -> None:
        self._most: Mapping[CallKind, int] = {
            CallKind.SHORT: limits.short,
            CallKind.HELD: limits.held,
            CallKind.TRANSFER: limits.transfers,
        }
        self._most_streams = limits.streams_per_principal
        self._streams: Counter[tuple[str, str]] = Counter()
        #: calls being served
        self.served: dict[CallKind, int] = dict.fromkeys(CallKind, 0)

    def most(self, kind: CallKind) -> int:
        """The limit."""
        return self._most[kind]

    def enter(self, kind: CallKind) -> None:
        """Begin to serve a call, which has to ``leave`` again. Raises RefusedError: OVERLOADED."""
        if self.served[kind] >= self._most[kind]:
            raise RefusedError(
                Refusal.OVERLOADED,
                f"this replica serves {self._most[kind]:,} {_NAMES[kind]} already; try again",
                metadata={"kind": kind, "limit": str(self._most[kind])},
                retry_delay=_LATER,
            )
        self.served[kind] += 1

    def leave(self, kind: CallKind) -> None:
        """End what ``enter`` has begun."""
        self.served[kind] -= 1

    @contextmanager
    def stream(self, principal: Principal) -> Iterator[None]:
        """Serve a stream of this principal inside the block.

        A gateway that acts for users has as many for each. Raises RefusedError: QUOTA_EXCEEDED.
        """
        key = principal.subject, str(principal.visible_user or "")
        if self._streams[key] >= self._most_streams:
            raise RefusedError(
                Refusal.QUOTA_EXCEEDED,
                f"{principal.subject} has {self._most_streams:,} streams open at this replica, as"
                " many as one caller may have; end some, or share them",
                metadata={"limit": str(self._most_streams)},
                retry_delay=_LATER,
                quota=f"principal:{principal.subject}/streams",
            )
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]


_NAMES: Final[Mapping[CallKind, str]] = {
    CallKind.SHORT: "calls",
    CallKind.HELD: "held calls",
    CallKind.TRANSFER: "uploads and downloads",
}
