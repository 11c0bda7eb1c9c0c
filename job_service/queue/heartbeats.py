"""Held heartbeats: leases renewed on arrival, answered when something concerns the worker."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.events.hub import Hub, JobChanged, WorkAvailable, WorkerConcerned
from job_service.queue.fleet import BeatMemory, Fleet, Member
from job_service.store.endings import EndingStore, given_back
from job_service.store.lease_key import LeaseKey
from job_service.store.leases import Beat, HeldLease, LeaseStore

#: A lease that was listed in none of this many heartbeats over this many seconds was given in an
#: answer that never arrived.
_UNCLAIMED_BEATS: Final = 2
_UNCLAIMED_SECONDS: Final = 5.0

Verdicts = dict[LeaseKey, "pb.Verdict.ValueType"]


class Heartbeats:
    """Answers heartbeats."""

    def __init__(
        self,
        hub: Hub,
        fleet: Fleet,
        leases: LeaseStore,
        endings: EndingStore,
        ttl: timedelta,
    ) -> None:
        self._hub = hub
        self._fleet = fleet
        self._leases = leases
        self._endings = endings
        self._ttl = ttl

    async def beat(
        self,
        name: str,
        instance_id: UUID,
        listed: Sequence[LeaseKey],
        *,
        draining: bool,
        wait: timedelta,
    ) -> tuple[Verdicts, frozenset[int]]:
        """Renew leases, then hold until something is new for the worker, or ``wait`` is over.

        Answers a verdict for each lease listed and each lease held, and WorkerDirectives.
        Raises RefusedError: DATABASE_UNAVAILABLE, INVALID_FIELDS.
        """
        member = await self._fleet.recognise(name, instance_id)
        memory = member.memory
        loop = asyncio.get_running_loop()
        # As of the call's arrival: when two are held, each must be told what is new.
        told, directives_told = memory.told, memory.directives
        held_until = loop.time() + min(wait, self._ttl / 3).total_seconds()
        with self._hub.subscribe(WorkerConcerned(member.id)) as subscription:
            held = await self._leases.beat(Beat(member.id, draining, listed))
            held = await self._give_back_unclaimed(memory, held, loop.time())
            while True:
                verdicts = _verdicts(listed, held)
                directives = _directives(member)
                news = {
                    (lease.token, verdict)
                    for lease, verdict in verdicts.items()
                    if verdict in (pb.VERDICT_CANCEL, pb.VERDICT_LOST)
                }
                remaining = held_until - loop.time()
                if (
                    not news <= told
                    or directives != directives_told
                    or remaining <= 0
                    or self._hub.stopping
                    or not await subscription.take(remaining)
                ):
                    memory.told = news
                    memory.directives = directives
                    return verdicts, directives
                member = await self._fleet.recognise(name, instance_id)
                held = await self._leases.held_by(member.id)

    async def _give_back_unclaimed(
        self, memory: BeatMemory, held: list[HeldLease], now: float
    ) -> list[HeldLease]:
        """Return leases to the queue, uncharged, that the worker evidently never heard of."""
        missing = {one.lease.token: one for one in held if not one.listed}
        memory.unclaimed = {
            token: (count + 1, since)
            for token in missing
            for count, since in [memory.unclaimed.get(token, (0, now))]
        }
        lost = [
            missing[token]
            for token, (count, since) in memory.unclaimed.items()
            if count > _UNCLAIMED_BEATS and now - since >= _UNCLAIMED_SECONDS
        ]
        await asyncio.gather(*(self._endings.end(given_back(one.lease)) for one in lost))
        for one in lost:
            self._hub.publish(JobChanged(one.lease.job_id), WorkAvailable())
        return [one for one in held if one not in lost]


def _verdicts(listed: Sequence[LeaseKey], held: Sequence[HeldLease]) -> Verdicts:
    verdicts: Verdicts = dict.fromkeys(listed, pb.VERDICT_LOST)
    for one in held:
        if one.lease not in verdicts:
            verdicts[one.lease] = pb.VERDICT_UNCLAIMED
        if one.cancel:
            verdicts[one.lease] = pb.VERDICT_CANCEL
        elif verdicts[one.lease] == pb.VERDICT_LOST:
            verdicts[one.lease] = pb.VERDICT_CONTINUE
    return verdicts


def _directives(member: Member) -> frozenset[int]:
    directives = set()
    if member.registration.superseded:
        directives.add(pb.WORKER_DIRECTIVE_SUPERSEDED)
    if member.registration.drain_requested:
        directives.add(pb.WORKER_DIRECTIVE_DRAIN)
    if member.registration.catalogue_wanted:
        directives.add(pb.WORKER_DIRECTIVE_REFRESH_CATALOGUE)
    return frozenset(directives)
