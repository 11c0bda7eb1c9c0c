"""The states of a job, and the words the table uses for states, types and roles.

::

               ┌──── retryable failure, lost lease, release ────┐
               ▼                                                │
    create → PENDING ──lease──► RUNNING ──complete──► COMPLETED │
               │                   ├── permanent failure, budget used up ──► FAILED
             cancel                └── any other end after a cancel ──► CANCELLED
               ▼
           CANCELLED          FAILED, CANCELLED ──retry──► PENDING
"""

from typing import Final

from generation_jobs.v1 import artifact_pb2, attempt_pb2, job_pb2

PENDING: Final = "pending"
RUNNING: Final = "running"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

#: States in which a job rests; only RetryJob leaves them.
FINAL: Final = frozenset({COMPLETED, FAILED, CANCELLED})

#: Word in the table → value on the wire.
STATUS_TO_WIRE: Final[dict[str, "job_pb2.JobStatus.ValueType"]] = {
    PENDING: job_pb2.JOB_STATUS_PENDING,
    RUNNING: job_pb2.JOB_STATUS_RUNNING,
    COMPLETED: job_pb2.JOB_STATUS_COMPLETED,
    FAILED: job_pb2.JOB_STATUS_FAILED,
    CANCELLED: job_pb2.JOB_STATUS_CANCELLED,
}
STATUS_FROM_WIRE: Final = {wire: word for word, wire in STATUS_TO_WIRE.items()}

TYPE_TO_WIRE: Final[dict[str, "job_pb2.JobType.ValueType"]] = {
    "image": job_pb2.JOB_TYPE_IMAGE,
    "text": job_pb2.JOB_TYPE_TEXT,
    "video": job_pb2.JOB_TYPE_VIDEO,
    "audio": job_pb2.JOB_TYPE_AUDIO,
}
TYPE_FROM_WIRE: Final = {wire: word for word, wire in TYPE_TO_WIRE.items()}

ROLE_TO_WIRE: Final[dict[str, "artifact_pb2.ArtifactRole.ValueType"]] = {
    "output": artifact_pb2.ARTIFACT_ROLE_OUTPUT,
    "thumbnail": artifact_pb2.ARTIFACT_ROLE_THUMBNAIL,
    "intermediate": artifact_pb2.ARTIFACT_ROLE_INTERMEDIATE,
}
ROLE_FROM_WIRE: Final = {wire: word for word, wire in ROLE_TO_WIRE.items()}

OUTCOME_TO_WIRE: Final[dict[str, "attempt_pb2.AttemptOutcome.ValueType"]] = {
    "completed": attempt_pb2.ATTEMPT_OUTCOME_COMPLETED,
    "failed": attempt_pb2.ATTEMPT_OUTCOME_FAILED,
    "cancelled": attempt_pb2.ATTEMPT_OUTCOME_CANCELLED,
    "released": attempt_pb2.ATTEMPT_OUTCOME_RELEASED,
    "lease_expired": attempt_pb2.ATTEMPT_OUTCOME_LEASE_EXPIRED,
    "superseded": attempt_pb2.ATTEMPT_OUTCOME_SUPERSEDED,
    "timed_out": attempt_pb2.ATTEMPT_OUTCOME_TIMED_OUT,
}
