"""Turns a refusal into a gRPC status with machine-readable details."""

from collections.abc import Iterable
from typing import Final, NamedTuple, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from job_service.jobs.refusals import RefusedError, Violation

DOMAIN: Final = "generation-jobs"

#: Details beyond this fail at clients, whose header limits are low.
_MAX_DETAILS_BYTES: Final = 4096
_MAX_MESSAGE: Final = 500


class _Status(NamedTuple):
    """What grpc takes for a status, which has no class of its own to make."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def rich_status(
    refused: RefusedError, trailing: Iterable[tuple[str, str | bytes]] | None = None
) -> grpc.Status:
    """The status to abort with: ErrorInfo, and whichever other details apply.

    ``trailing``: metadata that goes along.
    """
    info = error_details_pb2.ErrorInfo(
        reason=refused.refusal.reason,
        domain=DOMAIN,
        metadata={key: value[:200] for key, value in refused.metadata.items()},
    )
    status = status_pb2.Status(
        code=code_pb2.Code.Value(refused.refusal.status.name),
        message=refused.message[:_MAX_MESSAGE],
        details=[_packed(info)],
    )
    if refused.retry_delay is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(refused.retry_delay)
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    if refused.quota:
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=refused.quota, description=refused.message[:_MAX_MESSAGE])
        status.details.append(_packed(failure))
    if refused.violations:
        room = _MAX_DETAILS_BYTES - status.ByteSize()
        status.details.append(_packed(_bad_request(list(refused.violations), room)))
    rich = rpc_status.to_status(status)
    metadata = (*(trailing or ()), *(rich.trailing_metadata or ()))
    return cast("grpc.Status", _Status(rich.code, rich.details, metadata))


def _bad_request(violations: list[Violation], room: int) -> error_details_pb2.BadRequest:
    """As many violations as there is room for; the last then says how many more there are."""
    bad = error_details_pb2.BadRequest()
    for index, violation in enumerate(violations):
        bad.field_violations.add(
            field=violation.field[:200],
            description=violation.description[:300],
            reason="INVALID",
        )
        if bad.ByteSize() > room - 100:
            del bad.field_violations[-1]
            bad.field_violations.add(
                field="", description=f"and {len(violations) - index} more", reason="TRUNCATED"
            )
            break
    return bad


def _packed(
    detail: error_details_pb2.ErrorInfo
    | error_details_pb2.RetryInfo
    | error_details_pb2.QuotaFailure
    | error_details_pb2.BadRequest,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
