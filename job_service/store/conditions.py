"""Which jobs a statement is about: the WHERE clause of lists, counts and batches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from job_service.jobs.limits import DEFAULT_BACKEND
from job_service.jobs.states import FINAL, PENDING, RUNNING
from job_service.store.database import as_json
from job_service.store.tables import JobRow

# Each condition as its index can serve it. The words are those of the expression that is indexed;
# labels are asked for in the part of the table that has any.
_SQL: Final[Mapping[str, str]] = {
    "user_id": "job.user_id = :user_id",
    "statuses": "job.status = ANY(:statuses)",
    "job_types": "job.job_type = ANY(:job_types)",
    "checkpoint_model": "job.checkpoint_model = :checkpoint_model",
    "labels": "job.labels <> '{}' AND job.labels @> CAST(:labels AS jsonb)",
    "created_after": "job.created_at >= :created_after",
    "created_before": "job.created_at < :created_before",
    "completed_after": "job.completed_at >= :completed_after",
    "completed_before": "job.completed_at < :completed_before",
    "search": (
        "to_tsvector('simple', job.prompt || ' ' || job.negative_prompt)"
        " @@ websearch_to_tsquery('simple', :search)"
    ),
    "backends": "job.backend_label = ANY(:backends)",
    "legacy_request_id": "job.legacy_request_id = :legacy_request_id",
    "ids": "job.id = ANY(:ids)",
}

# The same for a row in hand, so that a change costs one read however many watches it may concern.
# Words are left to PostgreSQL.
_HOLDS: Final[Mapping[str, Callable[[JobRow, Any], bool]]] = {
    "user_id": lambda job, user_id: job.user_id == user_id,
    "statuses": lambda job, statuses: job.status in statuses,
    "job_types": lambda job, job_types: job.job_type in job_types,
    "checkpoint_model": lambda job, name: job.checkpoint_model == name,
    "labels": lambda job, labels: labels.items() <= job.labels.items(),
    "created_after": lambda job, moment: job.created_at >= moment,
    "created_before": lambda job, moment: job.created_at < moment,
    "completed_after": lambda job, moment: bool(job.completed_at and job.completed_at >= moment),
    "completed_before": lambda job, moment: bool(job.completed_at and job.completed_at < moment),
    "backends": lambda job, backends: job.backend_label in backends,
    "legacy_request_id": lambda job, request_id: job.legacy_request_id == request_id,
    "ids": lambda job, ids: job.id in ids,
}

# Conditions that a job fulfils for ever or never.
_LASTING: Final = ("job_types", "created_after", "created_before", "legacy_request_id", "ids")

# What nearly every job has. Jobs that have something else are in partial indexes of their own,
# which a statement only finds when it says so in words.
_USUAL: Final[Mapping[str, tuple[str, str]]] = {
    "job_types": ("image", "job.job_type <> 'image'"),
    "backends": (DEFAULT_BACKEND, f"job.backend_label <> '{DEFAULT_BACKEND}'"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConditions:
    """Conditions that must all hold; None or empty: not a condition."""

    user_id: UUID | None = None
    statuses: Sequence[str] = ()
    job_types: Sequence[str] = ()
    checkpoint_model: str = ""
    labels: Mapping[str, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None
    search: str = ""
    backends: Sequence[str] = ()
    legacy_request_id: int | None = None
    ids: Sequence[int] = ()

    def where(self) -> tuple[str, dict[str, Any]]:
        """The clause on ``job``, and its parameters."""
        parameters = self._given()
        if "labels" in parameters:
            parameters["labels"] = as_json(self.labels)
        clauses = [f"({_SQL[name]})" for name in parameters]
        for name, (usual, clause) in _USUAL.items():
            if name in parameters and usual not in parameters[name]:
                clauses.append(f"({clause})")
        return " AND ".join(clauses) or "true", parameters

    def by_status(self) -> tuple[Sequence[str], dict[str, Any]]:
        """The clause split by state: a job that matches it matches exactly one of these.

        An index by state and time has jobs in the order of time only within one state. States
        differ a thousandfold in how many jobs they have, so the planner is told which it is.
        """
        rest, parameters = replace(self, statuses=()).where()
        states = sorted(FINAL.union((PENDING, RUNNING)).intersection(self.statuses))
        return [f"job.status = '{state}' AND {rest}" for state in states] or [rest], parameters

    def hold(self, job: JobRow) -> bool:
        """Whether a job fulfils all of them but ``search``."""
        return all(
            _HOLDS[name](job, value) for name, value in self._given().items() if name in _HOLDS
        )

    def may_have_held(self, job: JobRow) -> bool:
        """Whether a job may ever have fulfilled them."""
        if self.user_id is not None and job.user_id not in (None, self.user_id):
            return False
        return all(
            _HOLDS[name](job, value) for name, value in self._given().items() if name in _LASTING
        )

    def _given(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value for name, value in values.items() if value not in (None, "", (), [], {})
        }
