"""Gives jobs to waiting workers: one claim statement for all that wait at this replica."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

import structlog

from job_service.events.hub import Hub, JobChanged, Stopping, WorkAvailable
from job_service.jobs.refusals import RefusedError
from job_service.queue.fleet import Fleet, Member
from job_service.store.claims import Claim, RouteOffer, Slot, claim
from job_service.store.database import Database
from job_service.store.leases import Ending, LeaseKey, LeaseStore
from job_service.store.route_keys import RouteKeys

#: Seconds after which waiting workers are tried again without anybody having said that there is
#: work: jobs may have been created at another replica.
_LOOK_AGAIN: Final = 2.0
#: Slots one statement serves.
_MOST_SLOTS: Final = 256

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WaitingBackend:
    """A ComfyUI with room: its configured name, the digest of its catalogue, its free slots."""

    name: str
    digest: str
    free_slots: int


@dataclass(frozen=True, slots=True)
class LeaseTicket:
    """A lease just given: what was claimed, its name, and the ComfyUI's configured name."""

    claim: Claim
    lease: LeaseKey
    backend: str


@dataclass(slots=True, eq=False)
class _Waiter:
    member: Member
    backends: Sequence[WaitingBackend]
    job_types: Sequence[str]
    backend_labels: Sequence[str]
    max_jobs: int
    request_id: str
    leases: "asyncio.Future[list[LeaseTicket]]"
    claiming: bool = False
    gone: bool = False


class Dispatcher:
    """Holds LeaseJobs calls until there is work for them."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        fleet: Fleet,
        leases: LeaseStore,
        route_keys: RouteKeys,
        ttl: timedelta,
    ) -> None:
        self._database = database
        self._hub = hub
        self._fleet = fleet
        self._leases = leases
        self._route_keys = route_keys
        self._ttl = ttl
        self._waiting: list[_Waiter] = []
        self._learned_at = float("-inf")

    async def lease(
        self,
        member: Member,
        backends: Sequence[WaitingBackend],
        *,
        job_types: Sequence[str],
        backend_labels: Sequence[str],
        max_jobs: int,
        request_id: str,
        wait: timedelta,
    ) -> list[LeaseTicket]:
        """Up to ``max_jobs`` leases as soon as there is work; none after ``wait``.

        Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        waiter = _Waiter(
            member,
            backends,
            job_types,
            backend_labels,
            max_jobs,
            request_id,
            asyncio.get_running_loop().create_future(),
        )
        if self._hub.stopping:
            return []
        self._waiting.append(waiter)
        self._hub.publish(WorkAvailable())
        try:
            # A statement that is claiming for this waiter is seen to its end.
            await asyncio.wait([waiter.leases], timeout=max(wait.total_seconds(), 0.001))
            if waiter.claiming:
                await asyncio.wait([waiter.leases])
            return waiter.leases.result() if waiter.leases.done() else []
        finally:
            waiter.gone = True
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def run(self) -> None:
        """Serve waiters for ever."""
        with self._hub.subscribe(WorkAvailable()) as subscription:
            while True:
                fired = await subscription.take(_LOOK_AGAIN if self._waiting else None)
                if Stopping() in fired:
                    self._send_away()
                    continue
                try:
                    if self._waiting:
                        await self._learn_route_keys()
                    while self._waiting and await self._claim_round():
                        pass
                except RefusedError as error:
                    # Workers call again and so find a replica that can reach the database.
                    self._refuse_all(error)

    async def _learn_route_keys(self) -> None:
        """Learn, now and then, of keys that other replicas have interned."""
        now = asyncio.get_running_loop().time()
        if now - self._learned_at >= _LOOK_AGAIN:
            self._learned_at = now
            await self._route_keys.refresh()

    async def _claim_round(self) -> int:
        """Claim once for everybody who waits; how many jobs were found."""
        slots, offers, owners = self._slots()
        if not slots:
            return 0
        waiters = list(dict.fromkeys(owners))
        for waiter in waiters:
            waiter.claiming = True
        try:
            claims = await claim(self._database, slots, offers, self._ttl)
        finally:
            for waiter in waiters:
                waiter.claiming = False
        given: dict[_Waiter, list[LeaseTicket]] = {}
        for one in claims:
            slot = slots[one.slot]
            ticket = LeaseTicket(
                one,
                LeaseKey(one.job.id, slot.lease_token),
                slot.backend.removeprefix(f"{slot.worker}/"),
            )
            given.setdefault(owners[one.slot], []).append(ticket)
        for waiter, tickets in given.items():
            if waiter.gone or waiter.leases.done():
                await asyncio.gather(*(self.give_back(ticket) for ticket in tickets))
                continue
            waiter.leases.set_result(tickets)
            self._waiting.remove(waiter)
        self._hub.publish(*(JobChanged(one.job.id) for one in claims))
        return len(claims)

    def _slots(self) -> tuple[list[Slot], list[RouteOffer], list[_Waiter]]:
        """A row for each job that some waiter could take, and who waits behind it."""
        groups: dict[tuple[int, ...], int] = {}
        wanted: list[int] = []
        slots: list[Slot] = []
        owners: list[_Waiter] = []
        for waiter in self._waiting:
            for backend, keys in self._places(waiter):
                if len(slots) >= _MOST_SLOTS:
                    break
                group = groups.setdefault(keys, len(groups))
                if group == len(wanted):
                    wanted.append(0)
                wanted[group] += 1
                slots.append(
                    Slot(
                        slot=len(slots),
                        grp=group,
                        worker_id=waiter.member.id,
                        worker=waiter.member.name,
                        instance_id=waiter.member.instance_id,
                        backend=f"{waiter.member.name}/{backend.name}",
                        lease_token=uuid4(),
                        lease_request_id=waiter.request_id,
                    )
                )
                owners.append(waiter)
        offers = [RouteOffer(group, keys, wanted[group]) for keys, group in groups.items()]
        return slots, offers, owners

    def _places(self, waiter: _Waiter) -> list[tuple[WaitingBackend, tuple[int, ...]]]:
        """Where the waiter has room, its ComfyUIs in turn, for as many jobs as it wants."""
        able = []
        for backend in waiter.backends:
            keys = self._fleet.route_keys(
                waiter.member,
                backend.name,
                backend.digest,
                waiter.job_types,
                waiter.backend_labels,
            )
            if keys:
                able.append((backend, keys))
        deepest = max((backend.free_slots for backend, _ in able), default=0)
        places = [
            (backend, keys)
            for turn in range(min(deepest, waiter.max_jobs))
            for backend, keys in able
            if turn < backend.free_slots
        ]
        return places[: waiter.max_jobs]

    async def give_back(self, ticket: LeaseTicket) -> None:
        """Put a job back, uncharged, that did not reach its worker."""
        await self._leases.end(
            Ending(
                lease=ticket.lease,
                outcome="released",
                reported_by=None,
                retry=True,
                charge=False,
                delay=timedelta(),
            )
        )
        self._hub.publish(WorkAvailable())

    def _send_away(self) -> None:
        """Answer everybody without leases; they call again and reach another replica."""
        for waiter in self._waiting:
            if not waiter.leases.done():
                waiter.leases.set_result([])
        self._waiting.clear()

    def _refuse_all(self, error: RefusedError) -> None:
        _log.warning("claiming failed", error=str(error), waiting=len(self._waiting))
        for waiter in self._waiting:
            if not waiter.leases.done():
                waiter.leases.set_exception(error)
        self._waiting.clear()
