"""Holds LeaseJobs calls until there is work for them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from job_service.events.hub import Hub, JobChanged, Stopping, WorkAvailable
from job_service.jobs.refusals import RefusedError
from job_service.queue.claim_round import ClaimRound, Granted, LeaseCall
from job_service.queue.fleet import Fleet
from job_service.store.leases import LeaseKey, LeaseStore, given_back

#: Seconds after which the queue is looked at again for waiting workers without anybody having said
#: that there is work: jobs may have been created at another replica.
_LOOK_AGAIN: Final = 4.0

#: Seconds after which route keys and pauses made at other replicas are looked for.
_LEARN_AGAIN: Final = 10.0

_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Waiter:
    call: LeaseCall
    answer: "asyncio.Future[Sequence[Granted]]"
    in_round: bool = False
    round_over: asyncio.Event = field(default_factory=asyncio.Event)


class Dispatcher:
    """Answers waiting calls: one round serves all that wait at this replica."""

    def __init__(self, hub: Hub, claim_round: ClaimRound, leases: LeaseStore, fleet: Fleet) -> None:
        self._hub = hub
        self._round = claim_round
        self._leases = leases
        self._fleet = fleet
        self._waiting: dict[LeaseCall, _Waiter] = {}
        self._learned_at = float("-inf")

    async def lease(self, call: LeaseCall, wait: timedelta) -> Sequence[Granted]:
        """Up to ``call.max_jobs`` leases as soon as there is work; none after ``wait``.

        None at once, too, when the worker is superseded or drained. Otherwise the queue is looked
        at at least once. Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        if self._hub.stopping:
            return []
        waiter = _Waiter(call, asyncio.get_running_loop().create_future())
        self._waiting[call] = waiter
        self._hub.publish(WorkAvailable())
        try:
            await asyncio.wait([waiter.answer], timeout=wait.total_seconds())
            if not waiter.answer.done() and (waiter.in_round or not waiter.round_over.is_set()):
                waiter.round_over.clear()
                await waiter.round_over.wait()
            return waiter.answer.result() if waiter.answer.done() else []
        finally:
            # A round that is under way finds the answer cancelled and gives the jobs back.
            waiter.answer.cancel()
            self._waiting.pop(call, None)

    async def run(self) -> None:
        """Serve waiting calls for ever."""
        with self._hub.subscribe(WorkAvailable()) as subscription:
            while True:
                fired = await subscription.take(_LOOK_AGAIN if self._waiting else None)
                if Stopping() in fired:
                    self._answer_all([])
                    continue
                try:
                    while self._waiting and await self._serve():
                        pass
                except RefusedError as error:
                    # Workers call again and so find a replica that can reach the database.
                    _log.warning("claiming failed", error=str(error), waiting=len(self._waiting))
                    self._answer_all(error)
                except Exception as error:
                    self._answer_all(error)
                    raise

    async def give_back(self, lease: LeaseKey) -> None:
        """Put a job back, uncharged, that did not reach its worker."""
        await self._leases.end(given_back(lease))
        self._hub.publish(JobChanged(lease.job_id), WorkAvailable())

    async def _serve(self) -> bool:
        """Go one round; whether another may find more."""
        await self._learn()
        self._answer_dismissed()
        waiters = list(self._waiting.values())
        for waiter in waiters:
            waiter.in_round = True
        try:
            dealt = await self._round.deal([waiter.call for waiter in waiters])
        finally:
            for waiter in waiters:
                waiter.in_round = False
        unreachable: list[Granted] = []
        for waiter in waiters:
            leases = dealt.granted.get(waiter.call)
            if leases and waiter.answer.done():
                unreachable += leases
            elif leases:
                waiter.answer.set_result(leases)
                self._waiting.pop(waiter.call, None)
            waiter.round_over.set()
        await asyncio.gather(*(self.give_back(one.claim.lease) for one in unreachable))
        self._hub.publish(
            *(JobChanged(one.claim.job.id) for leases in dealt.granted.values() for one in leases)
        )
        return dealt.again

    async def _learn(self) -> None:
        """Learn, now and then, of what other replicas have written down."""
        now = asyncio.get_running_loop().time()
        if now - self._learned_at >= _LEARN_AGAIN:
            self._learned_at = now
            await self._fleet.learn()

    def _answer_dismissed(self) -> None:
        """Answer workers that get no more jobs: superseded, or drained by an operator."""
        for waiter in list(self._waiting.values()):
            registration = waiter.call.member.registration
            dismissed = registration.superseded or registration.drain_requested
            if dismissed and not waiter.answer.done():
                waiter.answer.set_result([])
                waiter.round_over.set()
                del self._waiting[waiter.call]

    def _answer_all(self, answer: Sequence[Granted] | Exception) -> None:
        for waiter in self._waiting.values():
            if waiter.answer.done():
                continue
            if isinstance(answer, Exception):
                waiter.answer.set_exception(answer)
            else:
                waiter.answer.set_result(answer)
            waiter.round_over.set()
        self._waiting.clear()
