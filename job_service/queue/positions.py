"""Where watched pending jobs stand in the queue, looked at again as it moves."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from job_service.events.hub import Hub, JobChanged, JobEnded, QueueMoved, WorkAvailable
from job_service.jobs.refusals import RefusedError
from job_service.queue.fleet import Fleet, Line
from job_service.store.joined import Joined
from job_service.store.queue_positions import MOST_AHEAD, QueuePositionStore, Standing
from job_service.store.tables import JobRow

#: Seconds between two looks at least, while the queue moves.
_PAUSE: Final = 2.0
#: Seconds between two looks when nobody here says that it has moved.
_LOOK_AGAIN: Final = 10.0
#: Jobs looked at with one statement.
_AT_ONCE: Final = 1_000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """How many jobs go before one, and how long it will wait for its start; None: unknown."""

    jobs_ahead: int
    estimated_wait: timedelta | None


@dataclass(frozen=True, slots=True)
class _Looked:
    route_key: int | None
    place: Place | None


class QueuePositions:
    """Looks for all watched jobs at once, at most every two seconds; without any, never."""

    def __init__(self, hub: Hub, store: QueuePositionStore, fleet: Fleet) -> None:
        self._hub = hub
        self._store = store
        self._fleet = fleet
        self._looked: dict[int, _Looked] = {}
        self._look = Joined(self._look_joined, most=_AT_ONCE)

    async def now(self, job: JobRow) -> Place | None:
        """Where a job stands; None when it waits for something other than its turn."""
        if job.status != "pending" or not job.dispatchable:
            return None
        return await self._look((job.id, job.route_key))

    async def follow(self, job: JobRow) -> Place | None:
        """The same; from now on ``QueueMoved`` tells watches of the job when that changes."""
        place = await self.now(job)
        if job.status == "pending" and job.dispatchable:
            self._looked[job.id] = _Looked(job.route_key, place)
        else:
            self._looked.pop(job.id, None)
        return place

    def last_seen(self, job_id: int) -> Place | None:
        """Where a job that is followed stood when it was last looked at."""
        looked = self._looked.get(job_id)
        return looked.place if looked else None

    async def run(self) -> None:
        """Look again for ever."""
        with self._hub.subscribe(WorkAvailable, JobEnded(), JobChanged) as subscription:
            while True:
                await subscription.take(_LOOK_AGAIN)
                try:
                    await self._look_again()
                except RefusedError as error:
                    _log.warning("looking at queue positions failed", error=str(error))
                await asyncio.sleep(_PAUSE)

    async def _look_again(self) -> None:
        self._looked = {
            job_id: looked
            for job_id, looked in self._looked.items()
            if self._hub.is_awaited(QueueMoved(job_id))
        }
        before = dict(self._looked)
        places = await asyncio.gather(
            *(self._look((job_id, looked.route_key)) for job_id, looked in before.items())
        )
        for (job_id, looked), place in zip(before.items(), places, strict=True):
            # One that was looked at meanwhile, after a change, is newer than this.
            if place != looked.place and self._looked.get(job_id) is looked:
                self._looked[job_id] = replace(looked, place=place)
                # That it has left the queue is told as a change of the job itself.
                left = place is None and await self._fleet.line_of(looked.route_key) is not None
                if not left and _has_moved(looked.place, place):
                    self._hub.wake(QueueMoved(job_id))

    async def _look_joined(
        self, jobs: Sequence[tuple[int, int | None]]
    ) -> Sequence[Place | Exception | None]:
        lines = {job_id: await self._fleet.line_of(route_key) for job_id, route_key in jobs}
        asked = {job_id: line.route_keys for job_id, line in lines.items() if line is not None}
        standings = await self._store.standings(asked) if asked else {}
        return [_place(lines[job_id], standings.get(job_id)) for job_id, _ in jobs]


def _place(line: Line | None, standing: Standing | None) -> Place | None:
    if line is None or standing is None:
        return None
    return Place(standing.ahead, _estimated_wait(line, standing))


def _estimated_wait(line: Line, standing: Standing) -> timedelta | None:
    """A ComfyUI runs one prompt after the other, those leased ahead included."""
    if standing.ahead >= MOST_AHEAD or standing.mean_run is None:
        return None
    turns = standing.ahead + standing.running - line.comfyuis + 1
    return standing.mean_run * max(turns, 0) / line.comfyuis


def _has_moved(before: Place | None, now: Place | None) -> bool:
    """Whether the difference is worth a message: an estimate alone changes all the time."""
    if before is None or now is None:
        return True
    return before.jobs_ahead != now.jobs_ahead or (
        (before.estimated_wait is None) != (now.estimated_wait is None)
    )
