"""Keeps what this replica knows of workers, pauses and route keys in step with the others."""

from collections.abc import Hashable
from typing import Final

import structlog

from job_service.events.hub import (
    CataloguesReported,
    CataloguesWanted,
    CatchUp,
    DrainChanged,
    Hub,
    PausesChanged,
    RouteKeysAdded,
    WorkAvailable,
    WorkerRegistered,
)
from job_service.jobs.refusals import RefusedError
from job_service.queue.fleet import Fleet

#: Seconds after which it is tried again when the database could not be reached.
_AFTER_FAILURE: Final = 1.0

_log = structlog.get_logger()


class FleetNews:
    """Tells the fleet what other replicas say.

    ``catch_up``: seconds after which pauses and route keys are read without anybody having said
    that there are new ones.
    """

    def __init__(self, hub: Hub, fleet: Fleet, catch_up: float) -> None:
        self._hub = hub
        self._fleet = fleet
        self._catch_up = catch_up

    def heard(self, topic: Hashable) -> None:
        """Take what another replica says."""
        match topic:
            case WorkerRegistered(name, epoch):
                self._fleet.superseded(name, epoch)
            case DrainChanged(worker_id, drain):
                self._fleet.drain_changed(worker_id, drain=drain)
            case CataloguesReported(worker):
                self._fleet.catalogues_reported(worker)
            case CataloguesWanted():
                self._fleet.catalogues_wanted()
            case CatchUp():
                self._fleet.doubt_everything()

    async def run(self) -> None:
        """Read pauses and route keys when there are new ones, and now and then, for ever."""
        with self._hub.subscribe(PausesChanged(), RouteKeysAdded(), CatchUp()) as subscription:
            pause = self._catch_up
            while True:
                await subscription.take(pause)
                if self._hub.stopping:
                    return
                pause = self._catch_up
                try:
                    if await self._fleet.learn():
                        self._hub.wake(WorkAvailable())
                except RefusedError as error:
                    _log.warning("reading pauses and route keys failed", error=str(error))
                    pause = _AFTER_FAILURE
