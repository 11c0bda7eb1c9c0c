"""What belongs to jobs but is not in their rows: attempts, and the files they made.

Read as JSON beside the row, so that a job takes one statement.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from job_service.store.artifacts import ArtifactRow
from job_service.store.database import Database, Row, statement
from job_service.store.tables import JOB_COLUMNS_SQL, JobRow


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One row of ``job_attempts``, as far as people see it."""

    attempt: int
    worker: str
    backend: str
    prompt_id: str | None
    leased_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    charged: bool
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class JobDetails:
    """Every attempt, oldest first; the files of a completed job, thumbnails after their picture."""

    attempts: Sequence[AttemptRow] = ()
    artifacts: Sequence[ArtifactRow] = ()


@dataclass(frozen=True, slots=True)
class DetailedJob:
    """A job's row and its details, as of one moment."""

    row: JobRow
    details: JobDetails


_ATTEMPT: Final = tuple(field.name for field in fields(AttemptRow))
_ARTIFACT: Final = tuple(field.name for field in fields(ArtifactRow))


def _array(of: str, columns: Sequence[str]) -> str:
    values = (f"{of}.{name}" for name in columns)
    return f"json_build_array({', '.join(values)})".replace(
        "artifact.sha256", "encode(artifact.sha256, 'hex')"
    )


# Only what the completed attempt made: other attempts' files are on their way out.
_DETAILS_SQL: Final = f"""
CASE WHEN job.attempt > 0 THEN (
    SELECT json_agg({_array("attempt", _ATTEMPT)} ORDER BY attempt.attempt)
    FROM job_attempts AS attempt WHERE attempt.job_id = job.id
) END AS attempts,
CASE WHEN job.status = 'completed' THEN (
    SELECT json_agg(
        {_array("artifact", _ARTIFACT)}
        ORDER BY artifact.position, artifact.role = 'thumbnail', artifact.thumbnail_size
    )
    FROM job_artifacts AS artifact
    WHERE artifact.job_id = job.id AND artifact.attempt = job.attempt
        AND artifact.stored_at IS NOT NULL
) END AS artifacts
"""

_DETAILED: Final = statement(f"""
SELECT {JOB_COLUMNS_SQL}, {_DETAILS_SQL} FROM generation_jobs AS job WHERE id = ANY(:ids)
""")

_DETAILS: Final = statement(f"""
SELECT id, {_DETAILS_SQL} FROM generation_jobs AS job WHERE id = ANY(:ids)
""")

_NONE: Final = JobDetails()


async def detailed(database: Database, job_ids: Sequence[int]) -> dict[int, DetailedJob]:
    """Those of these jobs that exist."""
    rows = await database.rows(_DETAILED, {"ids": list(job_ids)})
    return {row.id: DetailedJob(JobRow.of(row), _details(row)) for row in rows}


async def details_of(database: Database, jobs: Iterable[JobRow]) -> dict[int, JobDetails]:
    """The details of jobs whose rows are known already."""
    details = {job.id: _NONE for job in jobs}
    tried = [job.id for job in jobs if job.attempt or job.status == "completed"]
    if tried:  # a new job has none, and the answer to CreateJob is the hot one
        rows = await database.rows(_DETAILS, {"ids": tried})
        details |= {row.id: _details(row) for row in rows}
    return details


def _details(row: Row) -> JobDetails:
    return JobDetails(
        [AttemptRow(**_values(_ATTEMPT, one)) for one in row.attempts or ()],
        [ArtifactRow(**_values(_ARTIFACT, one)) for one in row.artifacts or ()],
    )


def _values(columns: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    found = dict(zip(columns, values, strict=True))
    for name, value in found.items():
        if value is None:
            continue
        if name.endswith("_at"):
            found[name] = datetime.fromisoformat(value)
        elif name == "sha256":
            found[name] = bytes.fromhex(value)
    return found
