"""A failed call is sorted by what the worker has to do about it."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from comfy_worker.worker.service_errors import (
    CallRefusedError,
    JobServiceError,
    LeaseLostError,
    NotAllowedError,
    ServiceUnavailableError,
    SupersededError,
    service_error_of,
)


def failed_call(code: grpc.StatusCode, details: bytes | None = None) -> grpc.aio.AioRpcError:
    trailing = [("grpc-status-details-bin", details)] if details is not None else []
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details="what went wrong"
    )


def rich(reason: str, domain: str = "generation-jobs") -> bytes:
    status = Status(code=10)
    for detail in (RetryInfo(), ErrorInfo(reason=reason, domain=domain)):
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.ABORTED, "LEASE_LOST", LeaseLostError),
        (grpc.StatusCode.FAILED_PRECONDITION, "SUPERSEDED", SupersededError),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", NotAllowedError),
        (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED", NotAllowedError),
        (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", ServiceUnavailableError),
        (grpc.StatusCode.DATA_LOSS, "CONTENT_MISMATCH", ServiceUnavailableError),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", CallRefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED", CallRefusedError),
    ],
)
def test_each_reason_has_its_consequence(
    code: grpc.StatusCode, reason: str, kind: type[JobServiceError]
) -> None:
    error = service_error_of(failed_call(code, rich(reason)))
    assert type(error) is kind
    assert error.reason == reason
    assert str(error) == f"{code.name} / {reason}: what went wrong"


@pytest.mark.parametrize("details", [None, b"", b"\xff garbage", rich("LEASE_LOST", "other")])
def test_without_a_reason_of_ours_the_status_decides(details: bytes | None) -> None:
    error = service_error_of(failed_call(grpc.StatusCode.UNAVAILABLE, details))
    assert type(error) is ServiceUnavailableError
    assert error.reason == ""
    assert str(error) == "UNAVAILABLE: what went wrong"
