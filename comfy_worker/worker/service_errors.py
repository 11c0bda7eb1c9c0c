"""What a call to job_service can fail with, sorted by what the worker has to do about it."""

from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

_DOMAIN: Final = "generation-jobs"
_DETAILS: Final = "grpc-status-details-bin"
_PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DATA_LOSS,
    }
)
_NOT_ALLOWED: Final = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
)


class JobServiceError(Exception):
    """Base; ``status`` and ``reason`` as in ErrorInfo, the reason empty when not from us."""

    def __init__(self, status: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(f"{status.name}{f' / {reason}' if reason else ''}: {message}")
        self.status = status
        self.reason = reason


class ServiceUnavailableError(JobServiceError):
    """No answer, or none for now; calling again is right."""


class LeaseLostError(JobServiceError):
    """The lease has ended; nothing was changed."""


class SupersededError(JobServiceError):
    """A newer process has the worker's name."""


class NotAllowedError(JobServiceError):
    """The token is missing, unknown, or not a worker's."""


class CallRefusedError(JobServiceError):
    """The service does not take the call as it is; calling again changes nothing."""


def service_error_of(error: grpc.aio.AioRpcError) -> JobServiceError:
    """Sort a failed call."""
    status, message = error.code(), error.details() or "no message was given"
    reason = _reason(error)
    kind: type[JobServiceError]
    if reason == "LEASE_LOST":
        kind = LeaseLostError
    elif reason == "SUPERSEDED":
        kind = SupersededError
    elif status in _NOT_ALLOWED:
        kind = NotAllowedError
    elif status in _PASSING:
        kind = ServiceUnavailableError
    else:
        kind = CallRefusedError
    return kind(status, reason, message)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Return the reason in the rich status, empty where there is none of ours."""
    info = ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            for packed in Status.FromString(value).details:
                if packed.Unpack(info):
                    break
        except DecodeError:
            continue
    return info.reason if info.domain == _DOMAIN else ""
