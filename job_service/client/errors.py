"""What a call can fail with, decoded from the rich status that travels with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self, TypeVar, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

# google.rpc.ErrorInfo.domain of the reasons in error_reason.proto.
_DOMAIN = "generation-jobs"
_D = TypeVar("_D", bound=Message)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong: the field, quota or precondition, and what about it."""

    subject: str
    description: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.description}" if self.subject else self.description


class JobServiceError(Exception):
    """A call to the service that did not succeed.

    ``reason`` is a value of ErrorReason without its prefix, or empty when the failure did
    not come from the service (no connection, a proxy in between). ``violations`` names
    wrong fields by path, ``quotas`` used-up quotas, ``preconditions`` states that forbid
    the call. ``retry_delay`` is how long the service asks to wait before another call.
    """

    def __init__(
        self,
        status: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        violations: tuple[Violation, ...] = (),
        quotas: tuple[Violation, ...] = (),
        preconditions: tuple[Violation, ...] = (),
        retry_delay: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.violations = violations
        self.quotas = quotas
        self.preconditions = preconditions
        self.retry_delay = retry_delay
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        name = f"{self.status.name} / {self.reason}" if self.reason else self.status.name
        message = [] if self.message_is_first_violation else [self.message]
        return f"{name}: {'; '.join([*message, *map(str, self.violations)])}"

    @property
    def message_is_first_violation(self) -> bool:
        """Whether ``message`` only repeats what ``violations`` begins with."""
        return bool(self.violations) and self.message.startswith(str(self.violations[0]))

    @classmethod
    def from_rpc_error(cls, error: grpc.aio.AioRpcError) -> Self:
        """Decode a failed call, also one made on ``JobServiceClient.stub``.

        Details that are unknown or malformed are left out; status and message always stand.
        """
        status = _rich_status(error)
        info = _detail(status, ErrorInfo)
        ours = info.domain == _DOMAIN
        retry = _detail(status, RetryInfo)
        return cls(
            error.code(),
            error.details() or "no message was given",
            reason=info.reason if ours else "",
            violations=tuple(
                Violation(wrong.field, wrong.description)
                for wrong in _detail(status, BadRequest).field_violations
            ),
            quotas=tuple(
                Violation(used_up.subject, used_up.description)
                for used_up in _detail(status, QuotaFailure).violations
            ),
            preconditions=tuple(
                Violation(unmet.subject, unmet.description)
                for unmet in _detail(status, PreconditionFailure).violations
            ),
            retry_delay=_length(retry.retry_delay) if retry.HasField("retry_delay") else None,
            metadata=dict(info.metadata) if ours else {},
        )


def _rich_status(error: grpc.aio.AioRpcError) -> Status:
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))
    except (ValueError, DecodeError):
        # A proxy rewrote the code or the message, or the details are garbage.
        status = None
    return cast("Status", status or Status())


def _detail(status: Status, kind: type[_D]) -> _D:
    for packed in status.details:
        detail = kind()
        try:
            if packed.Unpack(detail):
                return detail
        except DecodeError:
            continue
    return kind()


def _length(duration: Duration) -> timedelta:
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
