"""The state of the queue, as a whole and for one job."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from generation_jobs.v1 import generation_job_service_pb2 as pb

from job_service.queue.fleet import Fleet
from job_service.queue.positions import Place
from job_service.store.queue_stats import PACE_WINDOW, Activity, PendingJobs, QueueStatsStore


def queue_position(place: Place) -> pb.QueuePosition:
    """Where a job stands, as its watches are told."""
    position = pb.QueuePosition(jobs_ahead=place.jobs_ahead)
    if place.estimated_wait is not None:
        position.estimated_wait.FromTimedelta(place.estimated_wait)
    return position


@dataclass(frozen=True, slots=True)
class Waiting:
    """Pending jobs of one kind; ``oldest`` is how long the first of them has waited."""

    jobs: int
    oldest: timedelta


@dataclass(frozen=True, slots=True)
class QueueState:
    """What waits and what runs.

    ``pending`` may be leased at any time, ``unservable`` is offered by no live worker,
    ``scheduled`` waits for its time, a pause to end or room for its user.
    """

    pending: Waiting
    unservable: Waiting
    scheduled: Waiting
    activity: Activity


class QueueReport:
    """Adds up what waits and what runs; two statements, whatever the queue's length."""

    def __init__(self, store: QueueStatsStore, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet

    async def report(self) -> pb.GetQueueStatsResponse:
        """The queue now. Raises RefusedError: DATABASE_UNAVAILABLE."""
        state = await self.state()
        pending, activity = state.pending, state.activity
        response = pb.GetQueueStatsResponse(
            pending=pending.jobs,
            scheduled=state.scheduled.jobs,
            unservable=state.unservable.jobs,
            running=activity.running,
            live_workers=activity.live_workers,
            slots=activity.slots,
        )
        if pending.jobs:
            response.oldest_wait.FromTimedelta(pending.oldest)
        if activity.ended:
            response.estimated_drain.FromTimedelta(PACE_WINDOW * pending.jobs / activity.ended)
        return response

    async def state(self) -> QueueState:
        """The queue now. Raises RefusedError: DATABASE_UNAVAILABLE."""
        rows, activity = await asyncio.gather(self._store.pending(), self._store.activity())
        dispatchable = [one for one in rows if one.dispatchable]
        servable = [one for one in dispatchable if await self._can_run(one)]
        return QueueState(
            pending=_added(servable),
            unservable=_added([one for one in dispatchable if one not in servable]),
            scheduled=_added([one for one in rows if not one.dispatchable]),
            activity=activity,
        )

    async def _can_run(self, jobs: PendingJobs) -> bool:
        needs = await self._fleet.needs_of(jobs.route_key)
        return needs is not None and await self._fleet.can_run(needs)


def _added(rows: Sequence[PendingJobs]) -> Waiting:
    return Waiting(
        sum(one.jobs for one in rows), max((one.oldest_wait for one in rows), default=timedelta())
    )
