"""Statements on the queue as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from job_service.store.database import Database, statement

#: How far back the pace of the queue is measured.
PACE_WINDOW: Final = timedelta(minutes=10)

_PENDING: Final = statement("""
SELECT route_key, dispatchable, count(*) AS jobs, now() - min(created_at) AS oldest_wait
FROM generation_jobs WHERE status = 'pending'
GROUP BY route_key, dispatchable
""")

_ACTIVITY: Final = statement("""
WITH live AS (
    SELECT backends FROM workers AS worker
    WHERE last_beat_at > now() - :ttl
        AND epoch = (SELECT max(epoch) FROM workers AS other WHERE other.name = worker.name)
)
SELECT
    (SELECT count(*) FROM generation_jobs WHERE status = 'running') AS running,
    (SELECT count(*) FROM generation_jobs
        WHERE completed_at > now() - :window AND status IN ('completed', 'failed')) AS ended,
    (SELECT count(*) FROM live) AS live_workers,
    (SELECT coalesce(sum(CAST(backend ->> 'slots' AS integer)), 0)
        FROM live, jsonb_array_elements(live.backends) AS backend) AS slots
""")


@dataclass(frozen=True, slots=True)
class PendingJobs:
    """Pending jobs that share a route key; those not ``dispatchable`` wait for something."""

    route_key: int | None
    dispatchable: bool
    jobs: int
    oldest_wait: timedelta


@dataclass(frozen=True, slots=True)
class Activity:
    """What goes on besides waiting. ``ended``: jobs run to their end within PACE_WINDOW."""

    running: int
    ended: int
    live_workers: int
    slots: int


class QueueStatsStore:
    """Counts in the table."""

    def __init__(self, database: Database, ttl: timedelta) -> None:
        self._database = database
        self._ttl = ttl

    async def pending(self) -> Sequence[PendingJobs]:
        """What waits, by route key."""
        rows = await self._database.rows(_PENDING)
        return [
            PendingJobs(row.route_key, row.dispatchable, row.jobs, row.oldest_wait) for row in rows
        ]

    async def activity(self) -> Activity:
        """What runs, and who runs it."""
        row = await self._database.row(_ACTIVITY, {"window": PACE_WINDOW, "ttl": self._ttl})
        assert row is not None, "the statement answers one row"
        return Activity(row.running, row.ended, row.live_workers, row.slots)
