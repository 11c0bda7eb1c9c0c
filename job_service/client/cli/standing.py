"""Where a job stands, in the words and numbers a person wants while waiting for it."""

from dataclasses import dataclass

from generation_jobs.v1.generation_job_service_pb2 import WatchJobResponse
from generation_jobs.v1.job_pb2 import GenerationJob, JobStatus

from job_service.client.cli.figures import duration, seconds_of
from job_service.client.cli.terminal_text import one_line
from job_service.client.cli.words import DOING, WAITING_FOR, word


@dataclass(frozen=True, slots=True)
class Standing:
    """One moment of a job.

    ``headline`` changes rarely and ``detail`` often. ``fraction`` is 0 to 1, None while
    nothing is known; ``remaining`` is in seconds, None if nobody can tell.
    """

    headline: str
    detail: str = ""
    fraction: float | None = None
    remaining: float | None = None


def standing_of(update: WatchJobResponse) -> Standing:
    """Put an update that holds a job into words."""
    job = update.job
    if job.status == JobStatus.JOB_STATUS_PENDING:
        return _pending(update)
    if job.status == JobStatus.JOB_STATUS_RUNNING:
        return _running(job)
    fraction = 1.0 if job.status == JobStatus.JOB_STATUS_COMPLETED else None
    return Standing(word(JobStatus, job.status), fraction=fraction)


def _pending(update: WatchJobResponse) -> Standing:
    job = update.job
    headline = WAITING_FOR.get(job.pending_reason, "waiting")
    if job.HasField("error"):
        headline += f", after: {one_line(job.error.message)}"
    if not update.HasField("queue_position"):
        return Standing(headline)
    position = update.queue_position
    detail = f"{position.jobs_ahead} ahead" if position.jobs_ahead else "next in line"
    if position.HasField("estimated_wait"):
        detail += f", starts in about {duration(seconds_of(position.estimated_wait))}"
    return Standing(headline, detail)


def _running(job: GenerationJob) -> Standing:
    if not job.HasField("progress"):
        return Standing(_headline(job, f"taken by {one_line(job.worker) or 'a worker'}"))
    progress = job.progress
    return Standing(
        _headline(job, DOING.get(progress.phase, "running")),
        f"step {progress.step}/{progress.steps}" if progress.steps else "",
        max(0.0, min(progress.fraction, 1.0)),  # in this order NaN becomes 0
        seconds_of(progress.remaining) if progress.HasField("remaining") else None,
    )


def _headline(job: GenerationJob, doing: str) -> str:
    headline = f"being cancelled, {doing}" if job.HasField("cancel_requested_at") else doing
    return f"{headline} (attempt {job.attempt})" if job.attempt > 1 else headline
