"""Why a job is where it is, in sentences. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from generation_jobs.v1 import job_pb2

from job_service.store.tables import JobRow

if TYPE_CHECKING:
    from generation_jobs.v1.job_pb2 import PendingReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What bears on a job besides its own row.

    ``missing``: what it needs that no live worker offers. ``next_change``: how long until it
    becomes due, expires, or is taken from its worker, if nothing else happens.
    """

    pending_reason: "PendingReason.ValueType"
    jobs_ahead: int
    able_workers: Sequence[str]
    missing: Sequence[str]
    last_beat_at: datetime | None
    next_change: timedelta | None


def explain(row: JobRow, circumstances: Circumstances, now: datetime) -> str:
    """The whole story in a few sentences."""
    sentences = [_state(row, circumstances, now)]
    if row.attempt and row.status != "completed":
        sentences.append(
            f"It has had {_count(row.attempt, 'attempt')}, {row.attempts_charged} of"
            f" {row.max_attempts} charged."
        )
    if row.error and row.status in ("pending", "failed"):
        code = str(row.error.get("code")).removeprefix("ERROR_CODE_")
        sentences.append(f"Last error: {code}: {row.error.get('message')}")
    if row.cancel_requested_at is not None and row.status == "running":
        sentences.append("A cancel was asked for; the worker has been told.")
    if row.status == "pending" and row.expires_at is not None and row.started_at is None:
        sentences.append(f"It fails unless it starts within {_span(row.expires_at - now)}.")
    return " ".join(sentences)


def nobody_offers(missing: Sequence[str]) -> str:
    """Why a job that no live worker can run waits."""
    return f"No worker that takes jobs can run it; missing: {', '.join(missing)}."


def _state(row: JobRow, circumstances: Circumstances, now: datetime) -> str:
    match row.status:
        case "pending":
            return _pending(row, circumstances, now)
        case "running":
            return _running(row, circumstances, now)
        case "completed":
            return f"Completed on {row.backend}." if row.backend else "Completed."
        case "failed":
            return "Failed; RetryJob runs it again."
        case _:
            reason = f": {row.cancel_reason}" if row.cancel_reason else ""
            return f"Cancelled{reason}."


def _running(row: JobRow, circumstances: Circumstances, now: datetime) -> str:
    worker = (row.backend or "").partition("/")[0]
    beat = circumstances.last_beat_at
    heard = f"last heard of {_span(now - beat)} ago" if beat else "not heard of"
    prompt = f" as prompt {row.comfyui_prompt_id}" if row.comfyui_prompt_id else ""
    if row.started_at:
        doing = f"executes it on {row.backend}{prompt}"
    elif prompt:
        doing = f"has queued it on {row.backend}{prompt}"
    else:
        doing = f"has it for {row.backend} and has not reported a prompt yet"
    sentence = f"Worker {worker}, {heard}, {doing}."
    change = circumstances.next_change
    if change is None:
        return sentence
    if row.started_at and row.started_at + row.attempt_timeout - now <= change:
        return f"{sentence} The attempt times out in {_span(change)}."
    return f"{sentence} It keeps the job for {_span(change)} if it stays silent."


def _pending(row: JobRow, circumstances: Circumstances, now: datetime) -> str:
    due = f" in {_span(row.not_before - now)}" if row.not_before else ""
    ahead = _count(circumstances.jobs_ahead, "job")
    able = ", ".join(circumstances.able_workers) or "none"
    sentences = {
        job_pb2.PENDING_REASON_SCHEDULED: f"It is scheduled and becomes due{due}.",
        job_pb2.PENDING_REASON_RETRY_DELAY: (
            f"It pauses after a failed attempt and becomes due again{due}."
        ),
        job_pb2.PENDING_REASON_NO_WORKER_OFFERS: nobody_offers(circumstances.missing),
        job_pb2.PENDING_REASON_PAUSED: (
            "An operator has paused dispatch for its backend or checkpoint."
        ),
        job_pb2.PENDING_REASON_ADOPTION: (
            "Its worker was lost while ComfyUI may still render it: for a short while only"
            " whoever drives that ComfyUI may take it."
        ),
        job_pb2.PENDING_REASON_USER_LIMIT: "Its user already runs as many jobs as allowed.",
    }
    return sentences.get(
        circumstances.pending_reason,
        f"It waits for its turn behind {ahead}; able workers: {able}.",
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _span(span: timedelta) -> str:
    seconds = max(0.0, span.total_seconds())
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
