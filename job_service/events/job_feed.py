"""Level-triggered watches: a job's newest state, whenever it moves."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import structlog

from job_service.events.hub import (
    CatchUp,
    Hub,
    JobChanged,
    JobPreviewed,
    JobProgressed,
    ManyJobsChanged,
    QueueMoved,
    Stopping,
)
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.states import FINAL
from job_service.store.job_details import DetailedJob
from job_service.store.jobs import JobStore
from job_service.store.joined import Joined

_log = structlog.get_logger()


class JobFeed:
    """Reads watched jobs again when they are said to have changed.

    However many watches wake at once, one statement reads for all of them. ``catch_up``: seconds
    between two looks at watched jobs for changes that nobody announced.
    """

    def __init__(self, hub: Hub, jobs: JobStore, catch_up: float) -> None:
        self._hub = hub
        self._jobs = jobs
        self._catch_up = catch_up
        self._read = Joined(self._read_joined, most=1000)
        self._revisions: dict[int, int] = {}

    async def watch(
        self, job_id: int, user_id: UUID | None, keep_alive: float, *, previews: bool = False
    ) -> AsyncIterator[DetailedJob | None]:
        """The job now, then each time its row, progress, preview or place in the queue moves.

        None stands for ``keep_alive`` seconds without news. A row is the newest there is: states
        in between may be skipped, the one the job rests in is not. Ends after a final state.

        Raises RefusedError: JOB_NOT_FOUND, also when the job is deleted meanwhile; SHUTTING_DOWN.
        """
        topics = [JobChanged(job_id), JobProgressed(job_id), QueueMoved(job_id)]
        if previews:
            topics.append(JobPreviewed(job_id))
        with self._hub.subscribe(*topics) as subscription:
            job = await self._read_visible(job_id, user_id)
            yield job
            while job.row.status not in FINAL:
                fired = await subscription.take(keep_alive)
                if Stopping() in fired:
                    raise RefusedError(
                        Refusal.SHUTTING_DOWN, "this replica shuts down; watch again"
                    )
                if JobChanged(job_id) in fired:
                    newest = await self._read_visible(job_id, user_id)
                    if newest.row.revision == job.row.revision and len(fired) == 1:
                        continue
                    job = newest
                yield job if fired else None

    async def catch_up(self) -> None:
        """Wake watches of jobs that have changed without anybody here saying so, for ever.

        A change made at another replica, or in psql, is found within seconds.
        """
        with self._hub.subscribe(ManyJobsChanged(), CatchUp()) as subscription:
            while True:
                fired = await subscription.take(self._catch_up)
                if Stopping() in fired:
                    return
                watched = self._hub.watched_jobs()
                self._revisions = {i: self._revisions[i] for i in watched if i in self._revisions}
                try:
                    for start in range(0, len(watched), 1000):
                        await self._look(watched[start : start + 1000])
                except RefusedError as error:
                    _log.warning("catch-up failed", error=str(error))

    async def _look(self, job_ids: Sequence[int]) -> None:
        found = await self._jobs.revisions(job_ids)
        for job_id in job_ids:
            revision = found.get(job_id, -1)
            if self._revisions.get(job_id) != revision:
                self._revisions[job_id] = revision
                self._hub.wake(JobChanged(job_id))

    async def _read_visible(self, job_id: int, user_id: UUID | None) -> DetailedJob:
        job = await self._read(job_id)
        if job is None or user_id not in (None, job.row.user_id):
            raise RefusedError(Refusal.JOB_NOT_FOUND, f"there is no job {job_id}")
        return job

    async def _read_joined(
        self, job_ids: Sequence[int]
    ) -> Sequence[DetailedJob | Exception | None]:
        jobs = await self._jobs.detailed(sorted(set(job_ids)))
        return [jobs.get(job_id) for job_id in job_ids]
