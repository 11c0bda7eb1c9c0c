"""The columns of ``generation_jobs`` as queries and answers name them.

The schema itself is in ``migrations/``.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, Self
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One row of ``generation_jobs``: every column a client can see the effect of."""

    id: int
    user_id: UUID | None
    job_type: str
    status: str
    prompt: str
    negative_prompt: str
    checkpoint_model: str | None
    lora_models: list[dict[str, Any]]
    width: int | None
    height: int | None
    batch_size: int | None
    seed: int | None
    params: dict[str, Any]
    workflow: str | None
    template_name: str | None
    template_version: int | None
    template_arguments: dict[str, Any] | None
    inputs: list[dict[str, Any]]
    labels: dict[str, str]
    backend_label: str
    content_id: int | None
    error: dict[str, Any] | None
    progress: dict[str, Any] | None
    comfyui_prompt_id: str | None
    celery_task_id: str | None
    legacy_request_id: int | None
    created_at: datetime
    updated_at: datetime
    leased_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    delete_when_ended: bool
    revision: int
    request_id: str | None
    request_hash: bytes | None
    priority: int
    scheduled_at: datetime | None
    expires_at: datetime | None
    not_before: datetime | None
    dispatchable: bool
    route_key: int | None
    attempt: int
    max_attempts: int
    attempts_charged: int
    attempt_timeout: timedelta
    worker_id: int | None
    backend: str | None
    adopt_until: datetime | None

    @classmethod
    def of(cls, row: Any) -> Self:
        """The job in a result row that has at least these columns."""
        return cls(**dict(zip(JOB_COLUMNS, _job_columns(row), strict=True)))


JOB_COLUMNS: Final = tuple(field.name for field in fields(JobRow))

_job_columns = attrgetter(*JOB_COLUMNS)

#: For ``SELECT`` and ``RETURNING`` of a whole JobRow from ``job``.
JOB_COLUMNS_SQL: Final = ", ".join(f"job.{name}" for name in JOB_COLUMNS)
