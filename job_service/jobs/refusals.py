"""Why a call is refused: one exception for every error a caller may see.

Raised anywhere below the API and turned into a gRPC status with details in one place
(``job_service.api.status``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

import grpc
from generation_jobs.v1 import error_reason_pb2

Reason = error_reason_pb2.ErrorReason


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field: ``field`` is its path, for example ``job.lora_models[2].name``."""

    field: str
    description: str


class Refusal(Enum):
    """Each reason with the status it travels under."""

    INVALID_FIELDS = grpc.StatusCode.INVALID_ARGUMENT, Reason.ERROR_REASON_INVALID_FIELDS
    MALFORMED_MESSAGE = grpc.StatusCode.INVALID_ARGUMENT, Reason.ERROR_REASON_MALFORMED_MESSAGE
    MESSAGE_TOO_LARGE = grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.ERROR_REASON_MESSAGE_TOO_LARGE
    JOB_NOT_FOUND = grpc.StatusCode.NOT_FOUND, Reason.ERROR_REASON_JOB_NOT_FOUND
    ARTIFACT_NOT_FOUND = grpc.StatusCode.NOT_FOUND, Reason.ERROR_REASON_ARTIFACT_NOT_FOUND
    INPUT_NOT_FOUND = grpc.StatusCode.NOT_FOUND, Reason.ERROR_REASON_INPUT_NOT_FOUND
    WORKER_NOT_FOUND = grpc.StatusCode.NOT_FOUND, Reason.ERROR_REASON_WORKER_NOT_FOUND
    TEMPLATE_NOT_FOUND = grpc.StatusCode.NOT_FOUND, Reason.ERROR_REASON_TEMPLATE_NOT_FOUND
    TEMPLATE_EXISTS = grpc.StatusCode.ALREADY_EXISTS, Reason.ERROR_REASON_TEMPLATE_EXISTS
    TEMPLATE_BUILT_IN = (
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.ERROR_REASON_TEMPLATE_BUILT_IN,
    )
    REQUEST_ID_REUSED = grpc.StatusCode.ALREADY_EXISTS, Reason.ERROR_REASON_REQUEST_ID_REUSED
    WRONG_STATE = grpc.StatusCode.FAILED_PRECONDITION, Reason.ERROR_REASON_WRONG_STATE
    JOB_REFERENCED = grpc.StatusCode.FAILED_PRECONDITION, Reason.ERROR_REASON_JOB_REFERENCED
    ETAG_MISMATCH = grpc.StatusCode.ABORTED, Reason.ERROR_REASON_ETAG_MISMATCH
    LEASE_LOST = grpc.StatusCode.ABORTED, Reason.ERROR_REASON_LEASE_LOST
    SUPERSEDED = grpc.StatusCode.FAILED_PRECONDITION, Reason.ERROR_REASON_SUPERSEDED
    UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED, Reason.ERROR_REASON_UNAUTHENTICATED
    TOKEN_UNKNOWN = grpc.StatusCode.UNAUTHENTICATED, Reason.ERROR_REASON_TOKEN_UNKNOWN
    TOKEN_EXPIRED = grpc.StatusCode.UNAUTHENTICATED, Reason.ERROR_REASON_TOKEN_EXPIRED
    TOKEN_REVOKED = grpc.StatusCode.UNAUTHENTICATED, Reason.ERROR_REASON_TOKEN_REVOKED
    USER_REQUIRED = grpc.StatusCode.PERMISSION_DENIED, Reason.ERROR_REASON_USER_REQUIRED
    WRONG_WORKER = grpc.StatusCode.PERMISSION_DENIED, Reason.ERROR_REASON_WRONG_WORKER
    ROLE_NOT_ALLOWED = grpc.StatusCode.PERMISSION_DENIED, Reason.ERROR_REASON_ROLE_NOT_ALLOWED
    DATABASE_UNAVAILABLE = (
        grpc.StatusCode.UNAVAILABLE,
        Reason.ERROR_REASON_DATABASE_UNAVAILABLE,
    )
    ARTIFACT_STORE_UNAVAILABLE = (
        grpc.StatusCode.UNAVAILABLE,
        Reason.ERROR_REASON_ARTIFACT_STORE_UNAVAILABLE,
    )
    QUOTA_EXCEEDED = grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.ERROR_REASON_QUOTA_EXCEEDED
    OVERLOADED = grpc.StatusCode.UNAVAILABLE, Reason.ERROR_REASON_OVERLOADED
    SHUTTING_DOWN = grpc.StatusCode.UNAVAILABLE, Reason.ERROR_REASON_SHUTTING_DOWN
    NOT_IMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED, Reason.ERROR_REASON_NOT_IMPLEMENTED
    INTERNAL = grpc.StatusCode.INTERNAL, Reason.ERROR_REASON_INTERNAL
    CONTENT_MISMATCH = grpc.StatusCode.DATA_LOSS, Reason.ERROR_REASON_CONTENT_MISMATCH

    RESUME_TOKEN_EXPIRED = (
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.ERROR_REASON_RESUME_TOKEN_EXPIRED,
    )
    ARTIFACT_EXTERNAL = (
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.ERROR_REASON_ARTIFACT_EXTERNAL,
    )
    NO_ARTIFACT_URLS = (
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.ERROR_REASON_NO_ARTIFACT_URLS,
    )

    @property
    def status(self) -> grpc.StatusCode:
        """The gRPC status."""
        return self.value[0]

    @property
    def reason(self) -> str:
        """The reason as it travels in google.rpc.ErrorInfo, for example ``LEASE_LOST``."""
        return Reason.Name(self.value[1]).removeprefix("ERROR_REASON_")


@dataclass(slots=True)
class RefusedError(Exception):
    """The call is refused and has changed nothing (or, for UNAVAILABLE, may be repeated)."""

    refusal: Refusal
    message: str
    violations: Sequence[Violation] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    retry_delay: timedelta | None = None
    quota: str = ""

    def __str__(self) -> str:
        return f"{self.refusal.reason}: {self.message}"


def invalid_fields(violations: Sequence[Violation]) -> RefusedError:
    """A request whose fields are wrong, all of them named."""
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return RefusedError(
        Refusal.INVALID_FIELDS, f"{first.field}: {first.description}{more}", violations
    )
