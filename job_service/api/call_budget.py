"""How many calls are served at once: by kind, and streams by principal."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Final

from job_service.api.call_kind import CallKind
from job_service.jobs.limits import CallLimits
from job_service.jobs.principal import Principal
from job_service.jobs.refusals import Refusal, RefusedError

#: When a caller may try again; by then another replica may have been found, too.
_LATER: Final = timedelta(seconds=1)
_SOON: Final = timedelta(milliseconds=100)


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
        self._closed: frozenset[CallKind] = frozenset()
        self._left = asyncio.Event()
        self._refusing = 0
        #: calls being served
        self.served: dict[CallKind, int] = dict.fromkeys(CallKind, 0)

    def most(self, kind: CallKind) -> int:
        """The limit."""
        return self._most[kind]

    def enter(self, kind: CallKind) -> None:
        """Begin to serve a call, which has to ``leave`` again.

        Raises RefusedError: OVERLOADED, SHUTTING_DOWN.
        """
        if kind in self._closed:
            raise RefusedError(
                Refusal.SHUTTING_DOWN,
                "this replica shuts down; call again",
                retry_delay=_SOON,
            )
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
        self._left.set()

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Answer a call inside the block that was not let in."""
        self._refusing += 1
        try:
            yield
        finally:
            self._refusing -= 1
            self._left.set()

    def close(self, *kinds: CallKind) -> None:
        """Refuse calls of these kinds from now on, too."""
        self._closed |= set(kinds)

    @property
    def is_busy(self) -> bool:
        """Whether any call is being served or refused."""
        return bool(self._refusing or any(self.served.values()))

    async def until_left(self, *kinds: CallKind) -> None:
        """Wait until no call of these kinds is being served, and all refusals are told."""
        while self._refusing or any(self.served[kind] for kind in kinds):
            self._left.clear()
            await self._left.wait()

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
