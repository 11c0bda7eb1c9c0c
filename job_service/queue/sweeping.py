"""The sweep loop: removes what has had its time. Runs in every replica, safely at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from job_service.artifacts.sweeper import Sweeper
from job_service.events.hub import Hub, JobChanged, SweepDue
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.changes import ChangeStore
from job_service.store.jobs import JobStore
from job_service.store.node_signatures import NodeSignatureTable
from job_service.store.previews import PreviewTable
from job_service.store.retention import BEGINNING, RetentionStore
from job_service.store.workers import WorkerStore

#: Seconds between two sweeps when nothing announces itself sooner.
_INTERVAL: Final = 60.0
#: The same when there is something to sweep: many jobs that end together are swept together.
_SOONEST: Final = 1.0
#: The same after one that has failed.
_AFTER_FAILURE: Final = 5.0
#: Seconds until jobs that were referred to, and so stayed, are looked at again.
_WHOLE_PASS: Final = 3600.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept. None: for ever."""

    #: deletions, after they happened, for watches that were interrupted
    tombstones: timedelta
    #: workers, after they were last heard of
    workers: timedelta
    #: files, after their job has come to rest
    artifacts: timedelta | None = None
    #: jobs, after they have come to rest
    jobs: timedelta | None = None


class Sweeping:
    """Removes jobs to be deleted, whatever has been kept long enough, and files nobody will read.

    It goes in rounds of one batch of each kind, so that much of one kind does not keep the others
    waiting, and what fails of one does not concern the others.
    """

    def __init__(
        self,
        hub: Hub,
        jobs: JobStore,
        store: RetentionStore,
        changes: ChangeStore,
        sweeper: Sweeper,
        workers: WorkerStore,
        signatures: NodeSignatureTable,
        previews: PreviewTable,
        retention: Retention,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._jobs = jobs
        self._store = store
        self._changes = changes
        self._workers = workers
        self._signatures = signatures
        self._previews = previews
        self._retention = retention
        self._clock = clock
        self._place = BEGINNING
        self._pass_began_at = clock()
        self._steps: Mapping[str, Callable[[], Awaitable[bool]]] = {
            "jobs to be deleted": self._remove_jobs_to_be_deleted,
            "old jobs": self._remove_old_jobs,
            "old artifacts": self._detach_old_artifacts,
            "artifacts": sweeper.artifacts,
            "inputs": sweeper.inputs,
            "catalogues": self._forget_catalogues,
            "workers": self._remove_gone_workers,
            "node signatures": self._remove_signatures,
            "previews": self._remove_previews,
            "tombstones": self._forget_old_tombstones,
        }

    async def run(self) -> None:
        """Sweep until the replica stops; what is left then is for others, or for later."""
        with self._hub.subscribe(SweepDue()) as subscription:
            while not self._hub.stopping:
                if await self._sweep():
                    await asyncio.sleep(_SOONEST)
                    await subscription.take(_INTERVAL - _SOONEST)
                else:
                    await asyncio.sleep(_AFTER_FAILURE)

    async def _sweep(self) -> bool:
        """Go round until nothing is left; False when something failed and must be tried again."""
        steps = dict(self._steps)
        more = True
        while more:
            more = False
            for name in tuple(steps):
                if self._hub.stopping:
                    return True
                try:
                    more |= await steps[name]()
                except RefusedError as error:
                    _log.warning("sweep failed", of=name, error=str(error))
                    if error.refusal is Refusal.DATABASE_UNAVAILABLE:
                        return False
                    del steps[name]
        return len(steps) == len(self._steps)

    async def _remove_jobs_to_be_deleted(self) -> bool:
        deleted = await self._jobs.delete_ended()
        self._hub.publish(*(JobChanged(job_id) for job_id in deleted))
        return bool(deleted)

    async def _remove_old_jobs(self) -> bool:
        if self._retention.jobs is None:
            return False
        if self._clock() - self._pass_began_at >= _WHOLE_PASS:
            self._place = BEGINNING
            self._pass_began_at = self._clock()
        removal = await self._store.remove_jobs(self._retention.jobs, self._place)
        self._place = removal.place
        self._hub.publish(*(JobChanged(job_id) for job_id in removal.job_ids))
        return removal.more

    async def _detach_old_artifacts(self) -> bool:
        if self._retention.artifacts is None:
            return False
        return await self._store.detach_artifacts(self._retention.artifacts)

    async def _forget_catalogues(self) -> bool:
        await self._workers.forget_catalogues(self._retention.workers)
        return False

    async def _remove_gone_workers(self) -> bool:
        return await self._workers.remove_gone(self._retention.workers)

    async def _remove_signatures(self) -> bool:
        await self._signatures.sweep()
        return False

    async def _remove_previews(self) -> bool:
        await self._previews.sweep()
        return False

    async def _forget_old_tombstones(self) -> bool:
        return bool(await self._changes.sweep(self._retention.tombstones))
