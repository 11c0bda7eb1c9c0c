"""The other replicas: whether there are any, and what is watched at them."""

from collections.abc import Callable, Hashable
from typing import Final

#: Seconds between two signs of life.
BEAT: Final = 10.0
#: Seconds for which one sign of life counts, and one word on what is watched.
_COUNTS: Final = 3 * BEAT + 2
#: Seconds in which those who are there answer.
_ANSWER: Final = BEAT / 2


class Peers:
    """Replicas that have been heard of lately.

    What they want is forgotten unless it is said again, so that nobody has to take it back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._present_until: dict[str, float] = {}
        self._wanted_until: dict[Hashable, float] = {}
        self._until = float("-inf")

    @property
    def are_there(self) -> bool:
        """Whether there is somebody to tell."""
        return self._clock() < self._until

    def expected(self) -> None:
        """Assume that somebody is there, until those who are have had the time to say so."""
        self._until = max(self._until, self._clock() + _ANSWER)

    def heard(self, peer: str) -> None:
        """Note a sign of life."""
        self._present_until[peer] = self._clock() + _COUNTS
        self._until = max(self._until, self._present_until[peer])

    def left(self, peer: str) -> None:
        """Note that a replica has gone."""
        self._present_until.pop(peer, None)
        self._until = max(self._present_until.values(), default=float("-inf"))

    def want(self, what: Hashable) -> None:
        """Note that somebody wants this."""
        self._wanted_until[what] = self._clock() + _COUNTS

    def wanted(self, *anything: Hashable) -> bool:
        """Whether somebody wants any of these."""
        now = self._clock()
        return any(now < self._wanted_until.get(what, now) for what in anything)

    def forget_old(self) -> None:
        """Drop what counts no more."""
        now = self._clock()
        self._present_until = {k: until for k, until in self._present_until.items() if now < until}
        self._wanted_until = {k: until for k, until in self._wanted_until.items() if now < until}
