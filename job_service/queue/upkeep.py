"""The upkeep loop: what is due, late or overdue. Runs in every replica, safely at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog
from generation_jobs.v1 import job_error_pb2

from job_service.events.hub import (
    AdmissionDue,
    Hub,
    JobChanged,
    JobEnded,
    SweepDue,
    UpkeepDue,
    WorkAvailable,
)
from job_service.events.progress_board import ProgressBoard
from job_service.jobs.error_policy import error_of, policy
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.endings import Ending, EndingStore
from job_service.store.upkeep import OverdueLease, UpkeepStore

#: Seconds between two rounds when nothing announces itself sooner.
_INTERVAL: Final = 5.0

_log = structlog.get_logger()


class Upkeep:
    """Promotes jobs that are due, expires those that are late, rescues lost leases.

    A lease is taken from its worker only by a replica that has itself been able to serve
    heartbeats for a whole lease lifetime: after an outage, workers get that long to renew.

    ``on_database`` is told after each round whether the database could be reached.
    """

    def __init__(
        self,
        hub: Hub,
        store: UpkeepStore,
        endings: EndingStore,
        board: ProgressBoard,
        ttl: timedelta,
        on_database: Callable[[bool], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._store = store
        self._endings = endings
        self._board = board
        self._ttl = ttl
        self._on_database = on_database
        self._clock = clock
        self._serving_since = self._round_began_at = clock()

    async def run(self) -> None:
        """Go round for ever."""
        interval = min(_INTERVAL, self._ttl.total_seconds() / 4)
        with self._hub.subscribe(UpkeepDue()) as subscription:
            while True:
                pause = interval
                self._note_serving(interval)
                try:
                    due_in = await self._round()
                    await self._on_database(True)
                    if due_in is not None:
                        pause = min(pause, max(due_in.total_seconds(), 0.01))
                except RefusedError as error:
                    if error.refusal is not Refusal.DATABASE_UNAVAILABLE:
                        raise
                    self._serving_since = self._clock()
                    await self._on_database(False)
                    _log.warning("upkeep failed", error=str(error))
                await subscription.take(pause)

    def _note_serving(self, interval: float) -> None:
        """Begin to count anew when the process stood still: it served no heartbeats meanwhile."""
        now = self._clock()
        if now - self._round_began_at > 2 * interval + 1:
            self._serving_since = now
        self._round_began_at = now

    async def _round(self) -> timedelta | None:
        """Do what there is to do; how long until there is more."""
        outlook = await self._store.outlook()
        promoted = await self._store.promote_due() if outlook.due else []
        expired = await self._store.expire_late() if outlook.late else []
        rescued = await self._rescue(outlook.overdue)
        if promoted or rescued:
            self._hub.publish(WorkAvailable(), AdmissionDue())
        if rescued or expired:
            self._hub.publish(JobEnded())
        self._board.forget(*rescued)
        self._hub.publish(*(JobChanged(job_id) for job_id in (*promoted, *expired, *rescued)))
        # What was done by batches may have left more of the same.
        return timedelta() if promoted or expired or rescued else outlook.next_due_in

    def _may_rescue(self, overdue: OverdueLease) -> bool:
        return (
            not overdue.lease_expired
            or self._clock() - self._serving_since >= self._ttl.total_seconds()
        )

    async def _rescue(self, overdue: Sequence[OverdueLease]) -> list[int]:
        """Take jobs from workers that lost them; ids of those that were still theirs."""
        lapsed = [one for one in overdue if self._may_rescue(one)]
        endings = await asyncio.gather(*(self._endings.end(self._ending(one)) for one in lapsed))
        rescued = []
        for one, ended in zip(lapsed, endings, strict=True):
            if not ended.changed:
                continue
            # what the attempt has stored goes, and perhaps the job itself
            self._hub.publish(SweepDue())
            rescued.append(one.lease.job_id)
            _log.warning(
                "lease rescued",
                job_id=one.lease.job_id,
                worker=one.worker,
                why="lease expired" if one.lease_expired else "attempt timed out",
                status=ended.status,
            )
        return rescued

    def _ending(self, overdue: OverdueLease) -> Ending:
        if overdue.lease_expired:
            # Whoever drives that ComfyUI next finds the render there.
            return Ending(
                lease=overdue.lease,
                outcome="lease_expired",
                reported_by=None,
                retry=True,
                charge=True,
                delay=timedelta(),
                adopt_for=self._ttl,
                error=error_of(
                    job_error_pb2.ERROR_CODE_WORKER_LOST,
                    technical_details=f"worker {overdue.worker} did not renew its lease",
                ),
                only_expired=True,
            )
        rule = policy(job_error_pb2.ERROR_CODE_TIMED_OUT)
        return Ending(
            lease=overdue.lease,
            outcome="timed_out",
            reported_by=None,
            retry=rule.retry,
            charge=rule.charge,
            error=error_of(job_error_pb2.ERROR_CODE_TIMED_OUT),
        )
