"""Lets parked jobs into the queue when their users get room."""

from typing import Final

import structlog

from job_service.events.hub import (
    AdmissionDue,
    CatchUp,
    Hub,
    JobChanged,
    JobEnded,
    Stopping,
    WorkAvailable,
)
from job_service.jobs.refusals import RefusedError
from job_service.store.admission import AdmissionStore

#: Seconds after which parked jobs are looked for without anybody here having parked one: they may
#: have been parked at another replica.
_INTERVAL: Final = 30.0

_log = structlog.get_logger()


class Admission:
    """The admission loop.

    Where nobody has a cap there is nothing parked, and ends of jobs wake nothing.
    """

    def __init__(self, hub: Hub, store: AdmissionStore) -> None:
        self._hub = hub
        self._store = store
        self._jobs_are_parked = False

    async def run(self) -> None:
        """Admit for ever."""
        with self._hub.subscribe(AdmissionDue(), JobEnded(), CatchUp()) as subscription:
            while True:
                fired = await subscription.take(_INTERVAL)
                if Stopping() in fired or (fired == {JobEnded()} and not self._jobs_are_parked):
                    continue
                try:
                    await self._admit()
                except RefusedError as error:
                    _log.warning("admission failed", error=str(error))

    async def _admit(self) -> None:
        admitted = await self._store.admit()
        self._jobs_are_parked = admitted.users_with_parked_jobs > 0
        if admitted.job_ids:
            self._hub.publish(WorkAvailable(), *(JobChanged(job_id) for job_id in admitted.job_ids))
