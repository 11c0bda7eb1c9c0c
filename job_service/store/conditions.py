"""Which jobs a statement is about: the WHERE clause of lists, counts and batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from job_service.store.database import as_json

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
        parameters: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value not in (None, "", (), [], {}):
                parameters[field.name] = as_json(value) if field.name == "labels" else value
        clause = " AND ".join(f"({_SQL[name]})" for name in parameters)
        return clause or "true", parameters
