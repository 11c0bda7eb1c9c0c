"""Rows to messages."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from generation_jobs.v1 import artifact_pb2, attempt_pb2, job_pb2
from google.protobuf import duration_pb2, json_format, timestamp_pb2

from job_service.jobs.states import OUTCOME_TO_WIRE, ROLE_TO_WIRE, STATUS_TO_WIRE, TYPE_TO_WIRE
from job_service.store.artifacts import ArtifactRow
from job_service.store.database import as_exact_json, as_json
from job_service.store.inputs import InputRow
from job_service.store.job_details import AttemptRow
from job_service.store.tables import JobRow


def job_message(
    row: JobRow,
    *,
    progress: job_pb2.JobProgress | None = None,
    pending_reason: "job_pb2.PendingReason.ValueType" = job_pb2.PENDING_REASON_UNSPECIFIED,
    artifacts: Sequence[ArtifactRow] = (),
    attempts: Sequence[AttemptRow] = (),
    full: bool = True,
) -> job_pb2.GenerationJob:
    """A job as clients see it. ``progress``: newer than what the row holds."""
    sampler_params = row.params.get("sampler_params") or {}
    job = job_pb2.GenerationJob(
        id=row.id,
        user_id=str(row.user_id) if row.user_id else "",
        job_type=TYPE_TO_WIRE[row.job_type],
        status=STATUS_TO_WIRE[row.status],
        prompt=row.prompt,
        negative_prompt=row.negative_prompt,
        checkpoint_model=row.checkpoint_model or "",
        lora_models=[job_pb2.Lora(**lora) for lora in row.lora_models],
        width=row.width,
        height=row.height,
        batch_size=row.batch_size,
        sampler=_sampler(row.seed, sampler_params),
        params_json=_params_json(row.params),
        inputs=[job_pb2.InputBinding(**binding) for binding in row.inputs],
        labels=row.labels,
        backend=row.backend_label,
        priority=row.priority,
        scheduled_at=timestamp(row.scheduled_at),
        expires_at=timestamp(row.expires_at),
        max_attempts=row.max_attempts,
        attempt_timeout=duration(row.attempt_timeout),
        content_id=row.content_id,
        attempt=row.attempt,
        attempts_charged=row.attempts_charged,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        leased_at=timestamp(row.leased_at),
        started_at=timestamp(row.started_at),
        completed_at=timestamp(row.completed_at),
        cancel_requested_at=timestamp(row.cancel_requested_at),
        cancel_reason=row.cancel_reason or "",
        pending_reason=pending_reason,
        comfyui_prompt_id=row.comfyui_prompt_id or "",
        comfyui_backend=row.backend or "",
        worker=(row.backend or "").partition("/")[0],
        revision=row.revision,
        etag=etag(row.id, row.revision),
        request_id=row.request_id or "",
        legacy_request_id=row.legacy_request_id,
        celery_task_id=row.celery_task_id or "",
    )
    if row.status == "running":
        if progress is not None:
            job.progress.CopyFrom(progress)
        elif row.progress is not None:
            json_format.ParseDict(row.progress, job.progress, ignore_unknown_fields=True)
    if row.error is not None:
        json_format.ParseDict(row.error, job.error, ignore_unknown_fields=True)
        if row.status == "pending" and row.not_before is not None:
            job.error.retry_delay.FromTimedelta(row.not_before - row.updated_at)
    if full:
        if row.workflow is not None:
            job.workflow_json = row.workflow
        job.artifacts.extend(map(artifact_message, artifacts))
        job.attempts.extend(map(attempt_message, attempts))
    if row.template_name is not None:
        job.template.name = row.template_name
        job.template.version = row.template_version or 0
        job.template.arguments_json = as_json(row.template_arguments or {})
    return job


def artifact_message(row: ArtifactRow) -> artifact_pb2.Artifact:
    """An artifact as clients see it."""
    return artifact_pb2.Artifact(
        id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        role=ROLE_TO_WIRE[row.role],
        position=row.position,
        filename=row.filename,
        content_type=row.content_type,
        size=row.size or 0,
        sha256=row.sha256 or b"",
        width=row.width,
        height=row.height,
        thumbnail_size=row.thumbnail_size,
        node_id=row.node_id,
        created_at=timestamp(row.created_at),
        duration=(
            None if row.duration_ms is None else duration(timedelta(milliseconds=row.duration_ms))
        ),
        external_location=row.external_location or "",
    )


def input_message(row: InputRow) -> artifact_pb2.InputAsset:
    """An input as clients and workers see it."""
    return artifact_pb2.InputAsset(
        id=row.id,
        user_id=str(row.user_id),
        filename=row.filename,
        content_type=row.content_type,
        size=row.size,
        sha256=row.sha256,
        width=row.width,
        height=row.height,
        created_at=timestamp(row.created_at),
    )


def attempt_message(row: AttemptRow) -> attempt_pb2.Attempt:
    """An attempt as clients see it."""
    attempt = attempt_pb2.Attempt(
        attempt=row.attempt,
        worker=row.worker,
        comfyui_backend=row.backend,
        comfyui_prompt_id=row.prompt_id or "",
        leased_at=timestamp(row.leased_at),
        started_at=timestamp(row.started_at),
        ended_at=timestamp(row.ended_at),
        outcome=(
            OUTCOME_TO_WIRE[row.outcome] if row.outcome else attempt_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
        ),
        charged=row.charged,
    )
    if row.error is not None:
        json_format.ParseDict(row.error, attempt.error, ignore_unknown_fields=True)
    return attempt


def etag(job_id: int, revision: int) -> str:
    """The etag of a job at a revision."""
    return f'"{job_id}-{revision}"'


def timestamp(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """A point in time, with its time zone; None stays None."""
    if moment is None:
        return None
    # Not FromDatetime, which goes by way of the calendar: a job has up to seven of these.
    since = moment - _EPOCH
    return timestamp_pb2.Timestamp(
        seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def duration(span: timedelta) -> duration_pb2.Duration:
    """A span of time."""
    message = duration_pb2.Duration()
    message.FromTimedelta(span)
    return message


def _params_json(stored: dict[str, Any]) -> str:
    params = {key: value for key, value in stored.items() if key != "sampler_params"}
    return as_exact_json(params) if params else "{}"


def _sampler(seed: int | None, stored: dict[str, Any]) -> job_pb2.Sampler | None:
    if seed is None and not stored:
        return None
    known = ("steps", "cfg", "sampler_name", "scheduler", "denoise")
    return job_pb2.Sampler(seed=seed, **{key: stored[key] for key in known if key in stored})
