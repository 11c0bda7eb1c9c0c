"""Holds LeaseJobs calls until there is work for them."""

import asyncio
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta

import structlog

from job_service.events.hub import CatchUp, Hub, JobChanged, JobQueued, Stopping, WorkAvailable
from job_service.jobs.refusals import RefusedError
from job_service.queue.claim_round import ClaimRound, Granted, LeaseCall
from job_service.store.endings import EndingStore, given_back
from job_service.store.lease_key import LeaseKey

_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call, whether a round serves it now or has before, and whether its wait is over."""

    call: LeaseCall
    answer: "asyncio.Future[Sequence[Granted]]"
    in_round: bool = False
    had_round: bool = False
    is_late: bool = False


class Dispatcher:
    """Answers waiting calls: one round serves all that wait at this replica.

    ``catch_up``: seconds after which the queue is looked at again without anybody having said that
    there is work.
    """

    def __init__(
        self, hub: Hub, claim_round: ClaimRound, endings: EndingStore, catch_up: float
    ) -> None:
        self._hub = hub
        self._round = claim_round
        self._endings = endings
        self._catch_up = catch_up
        self._waiting: dict[LeaseCall, _Waiter] = {}

    async def lease(self, call: LeaseCall, wait: timedelta) -> Sequence[Granted]:
        """Up to ``call.max_jobs`` leases as soon as there is work; none after ``wait``.

        None at once, too, when the worker is superseded or drained. Otherwise the queue is looked
        at at least once. Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        if self._hub.stopping:
            return []
        loop = asyncio.get_running_loop()
        waiter = _Waiter(call, loop.create_future())
        self._waiting[call] = waiter
        self._hub.wake(WorkAvailable())
        timer = loop.call_later(wait.total_seconds(), self._end_wait, waiter)
        try:
            return await waiter.answer
        finally:
            timer.cancel()
            # A round that is under way finds the answer cancelled and gives the jobs back.
            waiter.answer.cancel()
            self._waiting.pop(call, None)

    def awaits(self, route_key: int) -> bool:
        """Whether a call waits here that a job with this key could be leased to."""
        return self._round.serves([*self._waiting], {route_key})

    async def run(self) -> None:
        """Serve waiting calls for ever."""
        clock = asyncio.get_running_loop().time
        with self._hub.subscribe(WorkAvailable, JobQueued, CatchUp()) as subscription:
            look_at = clock()
            while True:
                pause = max(look_at - clock(), 0) if self._waiting else None
                fired = await subscription.take(pause)
                if Stopping() in fired:
                    self._answer_all([])
                    continue
                is_due = clock() >= look_at
                if not is_due and not self._concern_waiting(fired):
                    continue
                lone = None if is_due else _lone_job(fired)
                look_at = clock() + self._catch_up
                try:
                    while self._waiting and await self._serve(lone):
                        lone = None
                except RefusedError as error:
                    # Workers call again and so find a replica that can reach the database.
                    _log.warning("claiming failed", error=str(error), waiting=len(self._waiting))
                    self._answer_all(error)
                except Exception as error:
                    self._answer_all(error)
                    raise

    async def give_back(self, lease: LeaseKey) -> None:
        """Put a job back, uncharged, that did not reach its worker."""
        await self._endings.end(given_back(lease))
        self._hub.publish(JobChanged(lease.job_id), WorkAvailable())

    @staticmethod
    def _end_wait(waiter: _Waiter) -> None:
        """Answer a call whose wait is over, or have the round do it that looks for it first."""
        if waiter.in_round or not waiter.had_round:
            waiter.is_late = True
        elif not waiter.answer.done():
            waiter.answer.set_result([])

    async def _serve(self, lone: JobQueued | None) -> bool:
        """Go one round, perhaps for one new job only; whether another may find more."""
        self._answer_dismissed()
        waiters = list(self._waiting.values())
        for waiter in waiters:
            waiter.in_round = True
        try:
            calls = [waiter.call for waiter in waiters]
            if lone is None:
                dealt = await self._round.deal(calls)
            else:
                dealt = await self._round.deal_lone(calls, lone)
        finally:
            for waiter in waiters:
                waiter.in_round = False
        unreachable: list[Granted] = []
        for waiter in waiters:
            leases = dealt.granted.get(waiter.call)
            if leases and waiter.answer.done():
                unreachable += leases
            elif leases or (waiter.is_late and not waiter.answer.done()):
                waiter.answer.set_result(leases or [])
                self._waiting.pop(waiter.call, None)
            waiter.had_round = True
        if unreachable:
            await asyncio.gather(*(self.give_back(one.claim.lease) for one in unreachable))
        self._hub.publish(
            *(JobChanged(one.claim.job.id) for leases in dealt.granted.values() for one in leases)
        )
        return dealt.again

    def _concern_waiting(self, fired: Set[Hashable]) -> bool:
        """Whether work that has become available could be for one of the calls that wait."""
        route_keys = {
            topic.route_key
            for topic in fired
            if isinstance(topic, WorkAvailable | JobQueued) and topic.route_key is not None
        }
        looks_anyway = WorkAvailable() in fired or CatchUp() in fired
        return looks_anyway or self._round.serves([*self._waiting], route_keys)

    def _answer_dismissed(self) -> None:
        """Answer workers that get no more jobs: superseded, or drained by an operator."""
        for waiter in list(self._waiting.values()):
            registration = waiter.call.member.registration
            dismissed = registration.superseded or registration.drain_requested
            if dismissed and not waiter.answer.done():
                waiter.answer.set_result([])
                del self._waiting[waiter.call]

    def _answer_all(self, answer: Sequence[Granted] | Exception) -> None:
        for waiter in self._waiting.values():
            if waiter.answer.done():
                continue
            if isinstance(answer, Exception):
                waiter.answer.set_exception(answer)
            else:
                waiter.answer.set_result(answer)
        self._waiting.clear()


def _lone_job(fired: Set[Hashable]) -> JobQueued | None:
    """The job that was created, if that is all that has happened since the last look."""
    jobs = [topic for topic in fired if isinstance(topic, JobQueued)]
    if len(jobs) == 1 and fired <= {jobs[0], WorkAvailable(jobs[0].route_key)}:
        return jobs[0]
    return None
