"""Statements that count jobs in groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

from job_service.store.conditions import JobConditions
from job_service.store.database import Database, statement

GroupValue: TypeAlias = str | int | UUID | datetime | None

#: Most rows an answer has.
MOST_ROWS: Final = 10_000
#: Jobs created longer ago are left out when nothing says which time, or which jobs, it is about.
DEFAULT_WINDOW: Final = timedelta(days=90)
_BOUNDING: Final = frozenset(
    {
        "created_after",
        "created_before",
        "completed_after",
        "completed_before",
        "legacy_request_id",
        "ids",
    }
)


class Dimension(Enum):
    """What rows are grouped by: the SQL of the group, as the column of that name."""

    STATUS = "job.status"
    JOB_TYPE = "job.job_type"
    USER_ID = "job.user_id"
    CHECKPOINT_MODEL = "job.checkpoint_model"
    ERROR_CODE = "job.error ->> 'code'"
    BUCKET_START = "date_bin(:interval, job.created_at, timestamptz '2000-01-01 00:00:00+00')"
    HOUR_OF_DAY = "CAST(extract(hour FROM job.created_at AT TIME ZONE 'UTC') AS integer)"

    @property
    def column(self) -> str:
        """The name of the column in the answer."""
        return self.name.lower()


# A job has waited until its latest execution began, and run from there to its end.
_STATS: Final = """
SELECT {groups}
    count(*) AS total,
    count(*) FILTER (WHERE job.status = 'completed') AS completed,
    count(*) FILTER (WHERE job.status = 'failed') AS failed,
    count(*) FILTER (WHERE job.status = 'cancelled') AS cancelled,
    extract(epoch FROM avg(job.started_at - job.created_at)) AS waiting_mean,
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (
        ORDER BY extract(epoch FROM job.started_at - job.created_at)
    ) AS waiting,
    extract(epoch FROM avg(job.completed_at - job.started_at)) AS running_mean,
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (
        ORDER BY extract(epoch FROM job.completed_at - job.started_at)
    ) AS running
    {storage_columns}
FROM generation_jobs AS job {storage}
WHERE {where}
{group_by}
LIMIT :most
"""


# One row for each job, so that nothing else is counted twice. The same files as
# job_service.store.artifacts finds for a job.
_STORAGE: Final = """
LEFT JOIN LATERAL (
    SELECT count(*) AS files, sum(artifact.size) AS bytes FROM job_artifacts AS artifact
    WHERE artifact.job_id = job.id AND artifact.attempt = job.attempt
        AND artifact.stored_at IS NOT NULL AND job.status = 'completed'
) AS kept ON true
"""
_STORAGE_COLUMNS: Final = """,
    CAST(coalesce(sum(kept.files), 0) AS bigint) AS artifact_count,
    CAST(coalesce(sum(kept.bytes), 0) AS bigint) AS artifact_bytes
"""


@dataclass(frozen=True, slots=True)
class Storage:
    """The files that jobs have kept."""

    artifact_count: int
    artifact_bytes: int


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How long something took, in seconds."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class JobStatsRow:
    """Numbers about one group. ``group``: its value of each dimension, by column."""

    group: Mapping[str, GroupValue]
    total: int
    completed: int
    failed: int
    cancelled: int
    waiting: Quantiles | None
    running: Quantiles | None
    storage: Storage | None


class JobStatsStore:
    """Counts jobs, in one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rows(
        self,
        conditions: JobConditions,
        dimensions: Sequence[Dimension],
        interval: timedelta,
        *,
        with_storage: bool = False,
    ) -> list[JobStatsRow]:
        """A row for each group that has jobs, by group; without dimensions one row in all.

        ``with_storage`` looks at the files of each job, too.
        """
        where, parameters = conditions.where()
        if not _BOUNDING & parameters.keys():
            where = f"{where} AND job.created_at >= now() - :window"
            parameters["window"] = DEFAULT_WINDOW
        if Dimension.BUCKET_START in dimensions:
            parameters["interval"] = interval
        positions = ", ".join(str(n + 1) for n in range(len(dimensions)))
        sql = _STATS.format(
            groups="".join(f"{one.value} AS {one.column}, " for one in dimensions),
            storage_columns=_STORAGE_COLUMNS if with_storage else "",
            storage=_STORAGE if with_storage else "",
            where=where,
            group_by=f"GROUP BY {positions} ORDER BY {positions}" if dimensions else "",
        )
        rows = await self._database.rows(statement(sql), parameters | {"most": MOST_ROWS})
        return [
            JobStatsRow(
                group={one.column: getattr(row, one.column) for one in dimensions},
                total=row.total,
                completed=row.completed,
                failed=row.failed,
                cancelled=row.cancelled,
                waiting=_quantiles(row.waiting_mean, row.waiting),
                running=_quantiles(row.running_mean, row.running),
                storage=Storage(row.artifact_count, row.artifact_bytes) if with_storage else None,
            )
            for row in rows
        ]


def _quantiles(mean: Any, quantiles: Sequence[float | None] | None) -> Quantiles | None:
    """None when there was nothing to measure."""
    if mean is None or not quantiles:
        return None
    p50, p95, p99 = (float(value or 0) for value in quantiles)
    return Quantiles(float(mean), p50, p95, p99)
