"""The contract's enum values as words; values of a newer service crash nobody."""

from typing import Protocol

from generation_jobs.v1.job_pb2 import JobStatus, PendingReason, ProgressPhase
from google.protobuf.descriptor import EnumDescriptor


class ProtoEnum(Protocol):
    """A generated enum, for example ``JobStatus``."""

    @property
    def DESCRIPTOR(self) -> EnumDescriptor:  # noqa: N802 - the generated name
        """Names and numbers of its values."""


def words(enum: ProtoEnum) -> dict[str, int]:
    """Answer the values by word: ``JOB_STATUS_PENDING`` is "pending". 0 has none."""
    values = enum.DESCRIPTOR.values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower(): value.number for value in values[1:]}


def word(enum: ProtoEnum, number: int) -> str:
    """Answer the word for ``number``, or "unknown (99)"."""
    known = {value: name for name, value in words(enum).items()}
    return known.get(number, f"unknown ({number})" if number else "-")


STATUS_STYLES: dict[int, str] = {
    JobStatus.JOB_STATUS_PENDING: "blue",
    JobStatus.JOB_STATUS_RUNNING: "cyan",
    JobStatus.JOB_STATUS_COMPLETED: "green",
    JobStatus.JOB_STATUS_FAILED: "red",
    JobStatus.JOB_STATUS_CANCELLED: "yellow",
}

WAITING_FOR: dict[int, str] = {
    PendingReason.PENDING_REASON_QUEUED: "waiting for a free worker",
    PendingReason.PENDING_REASON_SCHEDULED: "waiting for its time",
    PendingReason.PENDING_REASON_RETRY_DELAY: "pausing before another attempt",
    PendingReason.PENDING_REASON_NO_WORKER_OFFERS: (
        "no connected worker offers its checkpoint, LoRAs, nodes, type or backend"
    ),
    PendingReason.PENDING_REASON_USER_LIMIT: "waiting for another job of the same user to end",
    PendingReason.PENDING_REASON_PAUSED: "paused by an operator",
    PendingReason.PENDING_REASON_ADOPTION: "waiting for its render to be picked up again",
}

DOING: dict[int, str] = {
    ProgressPhase.PROGRESS_PHASE_QUEUED: "queued in ComfyUI",
    ProgressPhase.PROGRESS_PHASE_LOADING: "loading models",
    ProgressPhase.PROGRESS_PHASE_SAMPLING: "sampling",
    ProgressPhase.PROGRESS_PHASE_DECODING: "decoding",
    ProgressPhase.PROGRESS_PHASE_STORING: "storing",
}
