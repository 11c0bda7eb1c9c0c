"""The driver's findings in the words of the contract. Pure."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from generation_jobs.v1 import job_error_pb2, job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import (
    Failure,
    FailureCode,
    LossReason,
    Phase,
    PreviewImage,
    Progress,
)

_LARGEST_PREVIEW: Final = 256 * 1024
_LONGEST_NAME: Final = 255
_LONGEST_DETAILS: Final = 4000
_LONGEST_REMAINING: Final = 365 * 24 * 3600.0
_MOST_INPUT_ERRORS: Final = 100
_PREVIEW_TYPES: Final = frozenset({"image/jpeg", "image/png"})
_PHASES: Final[Mapping[Phase, job_pb2.ProgressPhase.ValueType]] = {
    Phase.QUEUED: job_pb2.PROGRESS_PHASE_QUEUED,
    Phase.LOADING: job_pb2.PROGRESS_PHASE_LOADING,
    Phase.SAMPLING: job_pb2.PROGRESS_PHASE_SAMPLING,
    Phase.DECODING: job_pb2.PROGRESS_PHASE_DECODING,
}
_FAILURES: Final[Mapping[FailureCode, job_error_pb2.ErrorCode.ValueType]] = {
    FailureCode.INVALID_WORKFLOW: job_error_pb2.ERROR_CODE_INVALID_WORKFLOW,
    FailureCode.MODEL_NOT_FOUND: job_error_pb2.ERROR_CODE_MODEL_NOT_FOUND,
    FailureCode.NODE_NOT_FOUND: job_error_pb2.ERROR_CODE_NODE_NOT_FOUND,
    FailureCode.NODE_FAILED: job_error_pb2.ERROR_CODE_NODE_FAILED,
    FailureCode.OUT_OF_MEMORY: job_error_pb2.ERROR_CODE_OUT_OF_MEMORY,
    FailureCode.DEVICE_FAULT: job_error_pb2.ERROR_CODE_DEVICE_FAULT,
    FailureCode.WORKFLOW_FORBIDDEN: job_error_pb2.ERROR_CODE_WORKFLOW_FORBIDDEN,
}
_LOSSES: Final[Mapping[LossReason, job_error_pb2.ErrorCode.ValueType]] = {
    LossReason.UNREACHABLE: job_error_pb2.ERROR_CODE_COMFYUI_UNREACHABLE,
    LossReason.RESTARTED: job_error_pb2.ERROR_CODE_COMFYUI_RESTARTED,
    LossReason.VANISHED: job_error_pb2.ERROR_CODE_PROMPT_LOST,
}


def progress_report(
    lease: pb.LeaseRef,
    progress: Progress,
    *,
    prompt_id: str,
    running_for: timedelta | None,
    remaining: float | None,
    storing: bool,
    preview: PreviewImage | None,
) -> pb.ProgressReport:
    """Report how far an attempt is; previews that are too large are left out.

    ``remaining`` is in seconds.
    """
    report = pb.ProgressReport(
        lease=lease,
        fraction=progress.fraction,
        phase=job_pb2.PROGRESS_PHASE_STORING if storing else _PHASES[progress.phase],
        node_id=readable_name(progress.node_id or ""),
        node_class=readable_name(progress.node_class or ""),
        step=progress.step,
        steps=progress.steps,
        prompt_id=readable_name(prompt_id),
    )
    if running_for is not None:
        report.running_for.FromTimedelta(running_for)
    if remaining is not None:
        report.remaining.FromTimedelta(timedelta(seconds=min(remaining, _LONGEST_REMAINING)))
    if (
        preview is not None
        and preview.media_type in _PREVIEW_TYPES
        and len(preview.data) <= _LARGEST_PREVIEW
    ):
        report.preview.content_type = preview.media_type
        report.preview.data = preview.data
    return report


def failure_error(failure: Failure) -> job_error_pb2.JobError:
    """Put a prompt's failure in the words of the contract."""
    return job_error_pb2.JobError(
        code=_FAILURES[failure.code],
        message=failure.message,
        node_id=readable_name(failure.node_id),
        node_type=readable_name(failure.node_class),
        exception_type=readable_name(failure.exception_type),
        technical_details=failure.technical_details,
        node_input_errors=[
            job_error_pb2.NodeInputError(
                node_id=readable_name(error.node_id),
                node_type=readable_name(error.node_class),
                input_name=readable_name(error.input_name),
                error_type=readable_name(error.kind),
                message=error.message,
                suggestions=[each for each in error.suggestions if readable_name(each) == each],
            )
            for error in failure.inputs[:_MOST_INPUT_ERRORS]
        ],
    )


def loss_error(reason: LossReason, details: str) -> job_error_pb2.JobError:
    """Put the loss of a submitted prompt in the words of the contract."""
    return job_error(_LOSSES[reason], details=details)


def job_error(
    code: job_error_pb2.ErrorCode.ValueType, *, message: str = "", details: str = ""
) -> job_error_pb2.JobError:
    """Name an error of the worker's own; without a message the service has one for the code."""
    readable = details.encode(errors="replace")[-_LONGEST_DETAILS:].decode(errors="ignore")
    return job_error_pb2.JobError(
        code=code, message=message, technical_details=readable.replace("\0", " ")
    )


def readable_name(text: str) -> str:
    """Make a name of ComfyUI's fit for the contract: valid Unicode, at most 255 characters."""
    return text[:_LONGEST_NAME].encode(errors="replace").decode().replace("\0", " ")
