"""The state of the queue, as a whole and for one job."""

import asyncio

from generation_jobs.v1 import generation_job_service_pb2 as pb

from job_service.queue.fleet import Fleet
from job_service.queue.positions import Place
from job_service.store.queue_stats import PACE_WINDOW, PendingJobs, QueueStatsStore


def queue_position(place: Place) -> pb.QueuePosition:
    """Where a job stands, as its watches are told."""
    position = pb.QueuePosition(jobs_ahead=place.jobs_ahead)
    if place.estimated_wait is not None:
        position.estimated_wait.FromTimedelta(place.estimated_wait)
    return position


class QueueReport:
    """Adds up what waits and what runs; two statements, whatever the queue's length."""

    def __init__(self, store: QueueStatsStore, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet

    async def report(self) -> pb.GetQueueStatsResponse:
        """The queue now. Raises RefusedError: DATABASE_UNAVAILABLE."""
        waiting, activity = await asyncio.gather(self._store.pending(), self._store.activity())
        servable = [one for one in waiting if one.dispatchable and await self._can_run(one)]
        pending = sum(one.jobs for one in servable)
        dispatchable = sum(one.jobs for one in waiting if one.dispatchable)
        response = pb.GetQueueStatsResponse(
            pending=pending,
            scheduled=sum(one.jobs for one in waiting if not one.dispatchable),
            unservable=dispatchable - pending,
            running=activity.running,
            live_workers=activity.live_workers,
            slots=activity.slots,
        )
        if servable:
            response.oldest_wait.FromTimedelta(max(one.oldest_wait for one in servable))
        if activity.ended:
            response.estimated_drain.FromTimedelta(PACE_WINDOW * pending / activity.ended)
        return response

    async def _can_run(self, jobs: PendingJobs) -> bool:
        needs = await self._fleet.needs_of(jobs.route_key)
        return needs is not None and await self._fleet.can_run(needs)
