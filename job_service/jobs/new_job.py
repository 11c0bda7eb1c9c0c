"""A job that is about to be stored: validated, with every default filled in."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from job_service.jobs.routing import Needs


@dataclass(frozen=True, slots=True)
class NewJob:
    """Values for a new row of ``generation_jobs``, named as its columns."""

    user_id: UUID
    job_type: str
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
    priority: int
    scheduled_at: datetime | None
    expires_at: datetime | None
    max_attempts: int
    attempt_timeout: timedelta
    request_id: str | None
    request_hash: bytes | None
    needs: Needs
