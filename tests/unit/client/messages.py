"""Messages the tests of the client speak with."""

import hashlib
from datetime import timedelta
from typing import Any

import grpc
from generation_jobs.v1.artifact_pb2 import Artifact, ArtifactRole
from generation_jobs.v1.generation_job_service_pb2 import ReadArtifactResponse, WatchJobResponse
from generation_jobs.v1.job_pb2 import GenerationJob, JobProgress, JobStatus, ProgressPhase
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status


def failure(code: grpc.StatusCode, message: str, *details: Message, reason: str = "") -> Status:
    """A rich status as the service sends it."""
    status = Status(code=code.value[0], message=message)
    if reason:
        details = (ErrorInfo(reason=reason, domain="generation-jobs"), *details)
    for detail in details:
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def unavailable(reason: str = "SHUTTING_DOWN") -> Status:
    """A service on its way down."""
    return failure(grpc.StatusCode.UNAVAILABLE, "shutting down", reason=reason)


def invalid(**violations: str) -> Status:
    """A refusal that names fields."""
    bad = BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=field, description=description)
            for field, description in violations.items()
        ]
    )
    return failure(
        grpc.StatusCode.INVALID_ARGUMENT, "the job is wrong", bad, reason="INVALID_FIELDS"
    )


def retry_after(delay: timedelta) -> RetryInfo:
    """How long the service asks to wait."""
    length = Duration()
    length.FromTimedelta(delay)
    return RetryInfo(retry_delay=length)


def a_job(status: JobStatus.ValueType, **fields: Any) -> GenerationJob:
    """Job 7 in a state."""
    return GenerationJob(**{"id": 7, "prompt": "a lighthouse", "status": status, **fields})


def pending(**fields: Any) -> WatchJobResponse:
    """An update on a job that waits."""
    return WatchJobResponse(job=a_job(JobStatus.JOB_STATUS_PENDING, **fields))


def running(step: int, steps: int = 10, **fields: Any) -> WatchJobResponse:
    """An update on a job that samples."""
    progress = JobProgress(
        fraction=step / steps,
        phase=ProgressPhase.PROGRESS_PHASE_SAMPLING,
        step=step,
        steps=steps,
    )
    return WatchJobResponse(
        job=a_job(JobStatus.JOB_STATUS_RUNNING, **{"attempt": 1, "progress": progress, **fields})
    )


def completed(*contents: bytes) -> WatchJobResponse:
    """The last update on a job that made a file of each content."""
    files = [picture(content, position=i) for i, content in enumerate(contents)]
    return WatchJobResponse(job=a_job(JobStatus.JOB_STATUS_COMPLETED, artifacts=files))


def picture(content: bytes, position: int = 0, **fields: Any) -> Artifact:
    """What the service says about a picture with this content."""
    return Artifact(
        **{
            "id": 100 + position,
            "job_id": 7,
            "position": position,
            "role": ArtifactRole.ARTIFACT_ROLE_OUTPUT,
            "filename": "picture.png",
            "content_type": "image/png",
            "size": len(content),
            "sha256": hashlib.sha256(content).digest(),
            **fields,
        }
    )


def transfer(artifact: Artifact, content: bytes, chunk: int = 4) -> list[ReadArtifactResponse]:
    """The messages that carry a content."""
    return [
        ReadArtifactResponse(artifact=artifact),
        *(
            ReadArtifactResponse(chunk=content[start : start + chunk])
            for start in range(0, len(content), chunk)
        ),
    ]
