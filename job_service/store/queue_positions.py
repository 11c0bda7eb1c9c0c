"""Where pending jobs stand, and at what pace their queues move."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from job_service.store.database import Database, as_json, statement
from job_service.store.queue_stats import PACE_WINDOW

#: Jobs are counted up to here: what a look costs is bounded, however long the queue is.
MOST_AHEAD: Final = 10_000
#: Jobs whose run times make the pace, the last ones.
_PACE_SAMPLE: Final = 1_000

# A line is made of the route keys that the same ComfyUIs serve. Its head is read once, for all the
# jobs that are asked for; it is what a claim would find there (see claims.py).
_POSITIONS: Final = statement("""
WITH line AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS l (line integer, keys integer[])
), asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:asked AS jsonb)) AS a (id bigint, line integer)
), head AS MATERIALIZED (
    SELECT line.line, queued.id,
        row_number() OVER (
            PARTITION BY line.line ORDER BY priority DESC, virtual_start, id
        ) - 1 AS ahead
    FROM line CROSS JOIN LATERAL (
        SELECT first.* FROM unnest(line.keys) AS offered (route_key) CROSS JOIN LATERAL (
            SELECT id, priority, virtual_start FROM generation_jobs
            WHERE status = 'pending' AND dispatchable AND route_key = offered.route_key
                AND (adopt_until IS NULL OR adopt_until <= now())
                AND (expires_at IS NULL OR expires_at > now() OR started_at IS NOT NULL)
            ORDER BY priority DESC, virtual_start, id LIMIT :most
        ) AS first
        ORDER BY priority DESC, virtual_start, id LIMIT :most
    ) AS queued
), recent AS MATERIALIZED (
    SELECT route_key, completed_at - started_at AS run FROM generation_jobs
    WHERE completed_at > now() - :window AND status = 'completed' AND started_at IS NOT NULL
    ORDER BY completed_at DESC, id DESC LIMIT :sample
), busy AS MATERIALIZED (
    SELECT route_key, count(*) AS jobs FROM generation_jobs
    WHERE status = 'running' GROUP BY route_key
), pace AS MATERIALIZED (
    SELECT line,
        (SELECT avg(run) FROM recent WHERE route_key = ANY(line.keys)) AS mean_run,
        (SELECT sum(jobs) FROM busy WHERE route_key = ANY(line.keys)) AS running
    FROM line
)
SELECT asked.id, coalesce(head.ahead, :most) AS ahead, pace.mean_run,
    CAST(coalesce(pace.running, 0) AS bigint) AS running
FROM asked
JOIN generation_jobs AS job ON job.id = asked.id AND job.status = 'pending' AND job.dispatchable
    AND (job.adopt_until IS NULL OR job.adopt_until <= now())
    AND (job.expires_at IS NULL OR job.expires_at > now() OR job.started_at IS NOT NULL)
JOIN pace ON pace.line = asked.line
LEFT JOIN head ON head.line = asked.line AND head.id = asked.id
""")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a pending job stands among those that the same ComfyUIs can run.

    ``ahead``: jobs before it, MOST_AHEAD: so many or more. ``running``: jobs leased to those
    ComfyUIs. ``mean_run``: how long such jobs ran within PACE_WINDOW; None: none did.
    """

    ahead: int
    running: int
    mean_run: timedelta | None


class QueuePositionStore:
    """Looks where jobs stand."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standings(
        self, asked: Mapping[int, frozenset[int]], most: int = MOST_AHEAD
    ) -> dict[int, Standing]:
        """Where these jobs stand, each among the route keys given with it; one statement.

        Those that nobody can lease now are missing.
        """
        lines: dict[frozenset[int], int] = {}
        numbered = [
            {"id": job_id, "line": lines.setdefault(keys, len(lines))}
            for job_id, keys in asked.items()
        ]
        rows = await self._database.rows(
            _POSITIONS,
            {
                "lines": as_json(
                    [{"line": line, "keys": sorted(keys)} for keys, line in lines.items()]
                ),
                "asked": as_json(numbered),
                "most": most,
                "window": PACE_WINDOW,
                "sample": _PACE_SAMPLE,
            },
        )
        return {row.id: Standing(row.ahead, row.running, row.mean_run) for row in rows}
