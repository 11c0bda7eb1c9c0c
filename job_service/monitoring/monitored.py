"""Puts together what an operator sees of one replica."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from prometheus_client import ProcessCollector

from job_service.api.call_budget import CallBudget
from job_service.api.health import Health
from job_service.monitoring.counted import Counted
from job_service.monitoring.event_loop import watch_lag
from job_service.monitoring.queue_figures import QueueFigures
from job_service.monitoring.readiness import Readiness
from job_service.monitoring.sampled import Sampled
from job_service.queue.background import running_loops
from job_service.store import migrate
from job_service.store.database import Database

_log = structlog.get_logger()


@asynccontextmanager
async def monitored(
    listen: str | None,
    counted: Counted,
    figures: QueueFigures,
    database: Database,
    budget: CallBudget,
    health: Health,
) -> AsyncIterator[None]:
    """Serve metrics, liveness and readiness on ``listen`` while the block is open; None: do not.

    Raises CannotRunError when the address cannot be listened on.
    """
    if listen is None:
        yield
        return
    # A third of a second to import, for those who want it.
    from job_service.monitoring.http_endpoint import http_endpoint  # noqa: PLC0415

    readiness = Readiness(database, await asyncio.to_thread(migrate.revisions), health)
    counted.registry.register(Sampled(budget, database, figures, lambda: readiness.is_ready))
    ProcessCollector(registry=counted.registry)

    async def refresh() -> None:
        await asyncio.gather(figures.refresh(), readiness.problems())

    async with (
        running_loops({"event loop": partial(watch_lag, counted.loop_lagged)}),
        http_endpoint(listen, counted.registry, refresh=refresh, problems=readiness.problems),
    ):
        _log.info("metrics served", address=listen)
        yield
