"""One round of dealing out jobs: look at the queue, assign, lease."""

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import uuid4

from job_service.events.hub import JobQueued
from job_service.queue.assignment import (
    MOST_ASSIGNED,
    Candidate,
    FreeSlot,
    OvertakingLedger,
    Place,
    assign,
)
from job_service.queue.fleet import Fleet, Member
from job_service.store.claims import Claim, Peeked, Slot, claim, claim_lone, held, peek
from job_service.store.database import Database
from job_service.store.route_keys import RouteKeys


@dataclass(frozen=True, slots=True)
class WaitingBackend:
    """A ComfyUI with room.

    Its configured name, the digest of its catalogue, its slots and the free ones and, if known, the
    checkpoint it has loaded.
    """

    name: str
    digest: str
    slots: int
    free_slots: int
    loaded_checkpoint: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LeaseCall:
    """A LeaseJobs call that waits for up to ``max_jobs`` leases."""

    member: Member
    backends: Sequence[WaitingBackend]
    job_types: Sequence[str]
    backend_labels: Sequence[str]
    max_jobs: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease just given, and the configured name of its ComfyUI."""

    claim: Claim
    backend: str


@dataclass(frozen=True, slots=True)
class Dealt:
    """What each call got; those that got nothing are missing.

    ``again``: another round may find more, because this one found jobs.
    """

    granted: Mapping[LeaseCall, Sequence[Granted]]
    again: bool


@dataclass(frozen=True, slots=True)
class _OpenSlot:
    call: LeaseCall
    backend: WaitingBackend
    free: FreeSlot


class ClaimRound:
    """Deals jobs out to all calls that wait at this replica, by two statements.

    A job that is created while they wait and is alone takes one.
    """

    def __init__(
        self, database: Database, fleet: Fleet, route_keys: RouteKeys, ttl: timedelta
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._known = route_keys.known
        self._ttl = ttl
        self._ledger = OvertakingLedger()
        self._contended: set[int] = set()

    def serves(self, calls: Sequence[LeaseCall], route_keys: Set[int]) -> bool:
        """Whether a job with one of these keys could be leased to one of these calls."""
        return any(
            not route_keys.isdisjoint(slot.free.route_keys)
            for call in calls
            for slot in self._slots_of(call)
        )

    async def deal_lone(self, calls: Sequence[LeaseCall], job: JobQueued) -> Dealt:
        """Lease a new job to the first that can run it, if nothing else waits for these calls.

        Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        slots = self._open_slots(calls)
        checkpoint = self._known[job.route_key].checkpoint
        alone = Candidate(0, Place(0, job.job_id), job.route_key, checkpoint)
        assigned = assign([alone], [slot.free for slot in slots], OvertakingLedger(), 0.0)
        if not assigned:
            return Dealt({}, again=False)
        (taker,) = (slots[index] for index in assigned)
        names = [_name(call) for call in calls]
        claimed = await claim_lone(
            self._database,
            _claimed_slot(0, taker, job.job_id),
            self._ttl,
            route_keys={key for slot in slots for key in slot.free.route_keys},
            backends=_backends(slots),
            calls=names,
        )
        if claimed is None:
            return Dealt({}, again=True)
        self._note_checkpoint(taker, claimed)
        return Dealt(
            {taker.call: [Granted(claimed, taker.backend.name)]},
            # If the call is held twice, the other half finds now that it was leased something.
            again=names.count(_name(taker.call)) > 1,
        )

    async def deal(self, calls: Sequence[LeaseCall]) -> Dealt:
        """Lease what there is.

        Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        slots = self._open_slots(calls)
        offers: dict[int, int] = {}
        for slot in slots:
            for key in slot.free.route_keys:
                offers[key] = min(offers.get(key, 0) + 1, MOST_ASSIGNED)
        queue = await peek(
            self._database,
            offers,
            backends=_backends(slots),
            calls=[_name(call) for call in calls],
            without=self._contended,
        )
        granted = await self._replayed(calls, queue.replayed)
        slots = [slot for slot in slots if slot.call not in granted]
        assigned = self._assign(slots, queue.jobs)
        claims = await self._claim(slots, assigned)
        self._leave_out_contended(assigned, claims)
        for index, claimed in claims.items():
            slot = slots[index]
            granted.setdefault(slot.call, []).append(Granted(claimed, slot.backend.name))
        return Dealt(granted, again=bool(granted or assigned))

    def _leave_out_contended(
        self, assigned: Mapping[int, Candidate], claims: Mapping[int, Claim]
    ) -> None:
        """Have the next round look behind jobs that somebody else holds locked.

        They are tried again once a round has leased something or found nothing else.
        """
        if claims or not assigned:
            self._contended.clear()
        else:
            self._contended.update(one.place.job_id for one in assigned.values())

    async def _replayed(
        self, calls: Sequence[LeaseCall], replayed: Mapping[tuple[int, str], Sequence[int]]
    ) -> dict[LeaseCall, list[Granted]]:
        """The leases of repeated calls whose first answer was lost."""
        if not replayed:
            return {}
        claims = await held(self._database, [one for ids in replayed.values() for one in ids])
        granted: dict[LeaseCall, list[Granted]] = {}
        for call in calls:
            for job_id in replayed.get((call.member.id, call.request_id), ()):
                if job_id in claims:
                    backend = (claims[job_id].job.backend or "").partition("/")[2]
                    granted.setdefault(call, []).append(Granted(claims[job_id], backend))
        return granted

    def _assign(self, slots: Sequence[_OpenSlot], jobs: Sequence[Peeked]) -> dict[int, Candidate]:
        # Another replica may just have interned the key of a job that is to be adopted.
        candidates = [self._candidate(job) for job in jobs if job.route_key in self._known]
        self._ledger.forget_before(_first_places(candidates))
        return assign(candidates, [slot.free for slot in slots], self._ledger, time.monotonic())

    async def _claim(
        self, slots: Sequence[_OpenSlot], assigned: Mapping[int, Candidate]
    ) -> dict[int, Claim]:
        if not assigned:
            return {}
        claims = await claim(
            self._database,
            [
                _claimed_slot(index, slots[index], candidate.place.job_id)
                for index, candidate in assigned.items()
            ],
            self._ttl,
        )
        for index, claimed in claims.items():
            self._note_checkpoint(slots[index], claimed)
        return claims

    @staticmethod
    def _note_checkpoint(slot: _OpenSlot, claimed: Claim) -> None:
        slot.call.member.next_checkpoint[slot.backend.name] = claimed.job.checkpoint_model or ""

    def _candidate(self, job: Peeked) -> Candidate:
        return Candidate(
            job.priority,
            Place(job.virtual_start, job.id),
            job.route_key,
            self._known[job.route_key].checkpoint,
            job.adopter,
        )

    def _open_slots(self, calls: Sequence[LeaseCall]) -> list[_OpenSlot]:
        """A slot for each job that some call could take, in the order of ``assign``."""
        slots = [slot for call in calls for slot in self._slots_of(call)]
        return sorted(slots, key=lambda slot: slot.free.ahead)

    def _slots_of(self, call: LeaseCall) -> list[_OpenSlot]:
        """Where the worker has room, its ComfyUIs in turn, for as many jobs as it wants."""
        able = []
        for backend in call.backends:
            keys = self._fleet.route_keys(
                call.member, backend.name, backend.digest, call.job_types, call.backend_labels
            )
            if keys is not None and backend.free_slots > 0:
                # What it was given last is what it will have loaded when it gets to the next.
                loaded = call.member.next_checkpoint.get(backend.name, backend.loaded_checkpoint)
                ahead = max(backend.slots - backend.free_slots, 0)
                free = FreeSlot(f"{call.member.name}/{backend.name}", keys, loaded, ahead)
                able.append((backend, free))
        deepest = max((backend.free_slots for backend, _ in able), default=0)
        slots = [
            _OpenSlot(call, backend, replace(free, ahead=free.ahead + turn))
            for turn in range(min(deepest, call.max_jobs))
            for backend, free in able
            if turn < backend.free_slots
        ]
        return slots[: call.max_jobs]


def _backends(slots: Sequence[_OpenSlot]) -> list[str]:
    return sorted({slot.free.backend for slot in slots})


def _name(call: LeaseCall) -> tuple[int, str]:
    return call.member.id, call.request_id


def _claimed_slot(index: int, slot: _OpenSlot, job_id: int) -> Slot:
    return Slot(
        slot=index,
        job_id=job_id,
        worker_id=slot.call.member.id,
        worker=slot.call.member.name,
        instance_id=slot.call.member.instance_id,
        backend=slot.free.backend,
        lease_token=uuid4(),
        lease_request_id=slot.call.request_id,
    )


def _first_places(candidates: Sequence[Candidate]) -> dict[int, Place]:
    first: dict[int, Place] = {}
    for one in candidates:
        first[one.priority] = min(first.get(one.priority, one.place), one.place)
    return first
