"""Statements on attempts: what was tried, where, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from job_service.store.database import Database, statement

_OF_JOBS: Final = statement("""
SELECT job_id, attempt, worker, backend, prompt_id, leased_at, started_at, ended_at, outcome,
    charged, error
FROM job_attempts WHERE job_id = ANY(:job_ids)
ORDER BY job_id, attempt
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One row of ``job_attempts``, as far as people see it."""

    job_id: int
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


async def attempts_of(database: Database, job_ids: Sequence[int]) -> dict[int, list[AttemptRow]]:
    """Every attempt of each of these jobs, oldest first."""
    found: dict[int, list[AttemptRow]] = {}
    if not job_ids:
        return found
    for row in await database.rows(_OF_JOBS, {"job_ids": list(job_ids)}):
        found.setdefault(row.job_id, []).append(AttemptRow(**row._asdict()))
    return found
