"""Which waiting job goes to which free slot: queue order, bent a little to save model loads. Pure.

A job goes where fewest jobs are before it, so that no ComfyUI is idle while it waits behind another
job; of such places, to one that has its checkpoint in memory, else to the one that is free longest.

Queue order is priority, then the fair share tag, then the id. A ComfyUI that has a job's checkpoint
in memory may take that job although another is before it, within bounds: no job is overtaken by
more than ``most`` others, nor for longer than ``longest`` seconds, and never across priorities.
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

#: Jobs dealt out at once.
MOST_ASSIGNED: Final = 256
#: Jobs that may overtake one job.
MOST_OVERTAKING: Final = 32
#: Seconds for which a job may be overtaken.
LONGEST_OVERTAKING: Final = 120.0
#: Overtakings remembered. More than ``MOST_OVERTAKING``, so that forgetting the oldest never lets
#: a job be overtaken again.
_REMEMBERED: Final = 4096


class Place(NamedTuple):
    """Where a job stands among those of its priority."""

    virtual_start: int
    job_id: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that can be leased now. ``adopter``: only this ComfyUI may take it, for a while."""

    priority: int
    place: Place
    route_key: int
    checkpoint: str
    adopter: str | None = None

    @property
    def order(self) -> tuple[int, Place]:
        """Sorts candidates in queue order."""
        return -self.priority, self.place


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """Room for one job in a ComfyUI that can run jobs with these route keys.

    ``ahead``: jobs that are there, or would be, when this one comes.
    """

    backend: str
    route_keys: AbstractSet[int]
    loaded_checkpoint: str
    ahead: int = 0


class Overtaking(NamedTuple):
    """A job at ``place`` that was leased before its turn, at ``at`` seconds."""

    place: Place
    at: float


@dataclass(slots=True)
class OvertakingLedger:
    """Which jobs were leased before their turn, as long as that matters.

    Whoever overtakes a job also overtakes every job before that one. So the jobs that have
    overtaken some job are those in the ledger with a later place, whether or not it was first in
    line at the time, and it is enough to look at the first in line.
    """

    most: int = MOST_OVERTAKING
    longest: float = LONGEST_OVERTAKING
    _by_priority: dict[int, list[Overtaking]] = field(default_factory=dict)

    def allows(self, first: Candidate, now: float) -> bool:
        """Whether ``first``, the first in line, may be overtaken once more."""
        entries = self._by_priority.get(first.priority, [])
        overtook = entries[bisect_right(entries, (first.place, inf)) :]
        return len(overtook) < self.most and (
            not overtook or now - min(one.at for one in overtook) < self.longest
        )

    def note(self, overtaking: Candidate, now: float) -> None:
        """Note that a job is leased although another is before it."""
        entries = self._by_priority.setdefault(overtaking.priority, [])
        insort(entries, Overtaking(overtaking.place, now))
        del entries[: max(0, len(entries) - _REMEMBERED)]

    def forget_before(self, first: dict[int, Place]) -> None:
        """Forget what concerns no waiting job: ``first`` is the first place of each priority."""
        for priority, entries in list(self._by_priority.items()):
            place = first.get(priority)
            kept = [one for one in entries if place is not None and one.place > place]
            if kept:
                self._by_priority[priority] = kept
            else:
                del self._by_priority[priority]


def assign(
    candidates: Iterable[Candidate],
    slots: Sequence[FreeSlot],
    ledger: OvertakingLedger,
    now: float,
) -> dict[int, Candidate]:
    """Deal at most MOST_ASSIGNED jobs out to slots: index of the slot → its job.

    ``slots``: fewest ``ahead`` first, and of those the one that is free longest.

    ``candidates`` must hold, for every route key that some slot can run, the first jobs in queue
    order: MOST_ASSIGNED, or as many as there are slots. A job to be adopted goes to its ComfyUI
    alone, before anything else.
    """
    dealing = _Dealing(candidates, slots, ledger, now)
    for index in range(len(slots)):
        dealing.fill(index)
    return dealing.assigned


class _Dealing:
    def __init__(
        self,
        candidates: Iterable[Candidate],
        slots: Sequence[FreeSlot],
        ledger: OvertakingLedger,
        now: float,
    ) -> None:
        self.assigned: dict[int, Candidate] = {}
        self._slots = slots
        self._ledger = ledger
        self._now = now
        self._adoptions: dict[str, deque[Candidate]] = {}
        self._queues: dict[int, deque[Candidate]] = {}
        for candidate in sorted(candidates, key=lambda one: one.order):
            if candidate.adopter is not None:
                self._adoptions.setdefault(candidate.adopter, deque()).append(candidate)
            else:
                self._queues.setdefault(candidate.route_key, deque()).append(candidate)
        self._loaded = {slot.backend: slot.loaded_checkpoint for slot in slots}
        self._warm: dict[tuple[int, str], list[int]] = {}
        for index, slot in enumerate(slots):
            self._warm.setdefault((slot.ahead, slot.loaded_checkpoint), []).append(index)

    def fill(self, index: int) -> None:
        """Find a job for a slot; the first jobs found may be better off in another."""
        slot = self._slots[index]
        while index not in self.assigned and len(self.assigned) < MOST_ASSIGNED:
            adopted = _adoption(self._adoptions.get(slot.backend), slot)
            if adopted is not None:
                self._give(index, adopted)
                return
            loaded = self._loaded[slot.backend]
            job = _next(self._queues, slot, loaded, self._ledger, self._now)
            if job is None:
                return
            self._give(index if job.checkpoint == loaded else self._warmest(job, index), job)

    def _give(self, index: int, job: Candidate) -> None:
        self.assigned[index] = job
        self._loaded[self._slots[index].backend] = job.checkpoint

    def _warmest(self, job: Candidate, index: int) -> int:
        """A slot with as many jobs ahead that has the checkpoint in memory, else this one."""
        for other in self._warm.get((self._slots[index].ahead, job.checkpoint), ()):
            slot = self._slots[other]
            if (
                other not in self.assigned
                and self._loaded[slot.backend] == job.checkpoint
                and job.route_key in slot.route_keys
                and not self._adoptions.get(slot.backend)
            ):
                return other
        return index


def _adoption(waiting: deque[Candidate] | None, slot: FreeSlot) -> Candidate | None:
    """The first job that the slot's ComfyUI is to adopt, of those it may take at present."""
    for candidate in waiting or ():
        if candidate.route_key in slot.route_keys:
            assert waiting is not None
            waiting.remove(candidate)
            return candidate
    return None


def _next(
    queues: dict[int, deque[Candidate]],
    slot: FreeSlot,
    loaded: str,
    ledger: OvertakingLedger,
    now: float,
) -> Candidate | None:
    # Over the queues, not the slot's keys: most slots wait while there is little to do.
    heads = [queue[0] for key, queue in queues.items() if queue and key in slot.route_keys]
    if not heads:
        return None
    chosen = first = min(heads, key=lambda one: one.order)
    if loaded and first.checkpoint != loaded:
        alike = [
            one for one in heads if one.checkpoint == loaded and one.priority == first.priority
        ]
        if alike and ledger.allows(first, now):
            chosen = min(alike, key=lambda one: one.order)
            ledger.note(chosen, now)
    queues[chosen.route_key].popleft()
    return chosen
