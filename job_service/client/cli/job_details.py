"""One job with all there is to know about it."""

from collections.abc import Iterator
from datetime import datetime

from generation_jobs.v1.artifact_pb2 import ArtifactRole
from generation_jobs.v1.job_pb2 import GenerationJob, JobStatus, JobType, PendingReason
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from job_service.client.cli.attempt_table import attempt_table
from job_service.client.cli.figures import (
    age,
    between,
    duration,
    local_time,
    pixels,
    seconds_of,
    size,
)
from job_service.client.cli.job_table import status_text
from job_service.client.cli.option_syntax import format_lora
from job_service.client.cli.outcome import error_lines
from job_service.client.cli.tables import plain_grid, plain_table
from job_service.client.cli.terminal_text import one_line, printable
from job_service.client.cli.words import DOING, WAITING_FOR, word


def job_details(job: GenerationJob, now: datetime) -> RenderableType:
    """Everything about a job in view FULL, what matters most first."""
    grid = plain_grid()
    grid.add_row("Job", str(job.id))
    grid.add_row("Status", status_text(job))
    for name, value in (*_state(job), *_request(job), *_times(job, now)):
        if value:
            grid.add_row(name, Text(printable(value)))
    parts: list[RenderableType] = [grid]
    if job.HasField("error"):
        parts.append(Text("\n".join(["", "Error", *error_lines(job.error)]), style="red"))
    if job.attempts:
        parts.append(attempt_table(job.attempts, title="Attempts"))
    if job.artifacts:
        parts.append(_artifacts(job))
    return Group(*parts)


def _state(job: GenerationJob) -> Iterator[tuple[str, str]]:
    if job.status == JobStatus.JOB_STATUS_PENDING and job.pending_reason:
        reason = word(PendingReason, job.pending_reason)
        yield "Waits for", WAITING_FOR.get(job.pending_reason, reason)
    if job.HasField("progress"):
        progress = job.progress
        doing = DOING.get(progress.phase, "running")
        steps = f", step {progress.step}/{progress.steps}" if progress.steps else ""
        left = (
            f", about {duration(seconds_of(progress.remaining))} left"
            if progress.HasField("remaining")
            else ""
        )
        yield "Progress", f"{progress.fraction:.0%}, {doing}{steps}{left}"
    yield "Cancelled", job.cancel_reason
    yield "Backend", job.comfyui_backend or job.worker or job.backend


def _request(job: GenerationJob) -> Iterator[tuple[str, str]]:
    if job.job_type != JobType.JOB_TYPE_IMAGE:
        yield "Type", word(JobType, job.job_type)
    yield "Prompt", job.prompt
    yield "Negative", job.negative_prompt
    yield "Checkpoint", job.checkpoint_model
    yield "LoRAs", "\n".join(format_lora(lora) for lora in job.lora_models)
    yield "Size", f"{pixels(job.width, job.height)}, batch of {job.batch_size}"
    sampler = job.sampler
    yield "Sampler", f"{sampler.sampler_name}, {sampler.scheduler}, {sampler.steps} steps"
    yield "Guidance", f"cfg {sampler.cfg:g}, denoise {sampler.denoise:g}"
    yield "Seed", str(sampler.seed)
    match job.WhichOneof("recipe"):
        case "workflow_json":
            yield "Workflow", f"its own, {size(len(job.workflow_json.encode()))}"
        case "template":
            yield "Template", f"{job.template.name}, version {job.template.version}"
    yield "Inputs", "\n".join(f"{one.name}: input {one.input_id}" for one in job.inputs)
    if job.params_json not in {"", "{}"}:
        yield "Parameters", job.params_json
    yield "Labels", "\n".join(f"{key}={value}" for key, value in sorted(job.labels.items()))
    if job.priority:
        yield "Priority", str(job.priority)
    yield "User", job.user_id
    yield "Request id", job.request_id


def _times(job: GenerationJob, now: datetime) -> Iterator[tuple[str, str]]:
    def told(name: str, field: str, moment: Timestamp) -> tuple[str, str]:
        present = job.HasField(field)  # type: ignore[arg-type]  # names of fields, below
        return name, f"{local_time(moment)} ({age(moment, now)})" if present else ""

    yield told("Scheduled", "scheduled_at", job.scheduled_at)
    yield told("Expires", "expires_at", job.expires_at)
    yield told("Created", "created_at", job.created_at)
    yield told("Started", "started_at", job.started_at)
    yield told("Ended", "completed_at", job.completed_at)
    if job.HasField("started_at") and job.HasField("completed_at"):
        yield "Took", between(job.started_at, job.completed_at)


def _artifacts(job: GenerationJob) -> Table:
    table = plain_table("Id", "Role", "File", "Type", "Pixels", "Size", title="Files")
    for artifact in job.artifacts:
        table.add_row(
            str(artifact.id),
            word(ArtifactRole, artifact.role),
            Text(one_line(artifact.filename)),
            Text(one_line(artifact.content_type)),
            pixels(artifact.width, artifact.height) if artifact.width else "",
            size(artifact.size),
        )
    return table
