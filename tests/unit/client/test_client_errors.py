"""JobServiceError holds what the rich status said, and survives one that says nonsense."""

from datetime import timedelta

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    Help,
    PreconditionFailure,
    QuotaFailure,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from job_service.client import JobServiceError, Violation
from tests.unit.client.messages import failure, retry_after

_KEY = "grpc-status-details-bin"
_CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
_violations = st.lists(st.builds(Violation, st.text(), st.text()), max_size=20)


def decoded(code: grpc.StatusCode, message: str, details: bytes | None = None) -> JobServiceError:
    trailing = grpc.aio.Metadata(*([] if details is None else [(_KEY, details)]))
    return JobServiceError.from_rpc_error(
        grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=message)
    )


def decoded_status(status: Status) -> JobServiceError:
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    return decoded(code, status.message, status.SerializeToString())


@given(
    code=st.sampled_from(_CODES),
    message=st.text(min_size=1),
    reason=st.text(min_size=1),
    violations=_violations,
    quotas=_violations,
    preconditions=_violations,
    delay=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=365)),
    data=st.data(),
)
def test_everything_sent_arrives(
    *,
    code: grpc.StatusCode,
    message: str,
    reason: str,
    violations: list[Violation],
    quotas: list[Violation],
    preconditions: list[Violation],
    delay: timedelta,
    data: st.DataObject,
) -> None:
    details: list[Message] = [
        ErrorInfo(reason=reason, domain="generation-jobs", metadata={"job": "7"}),
        BadRequest(
            field_violations=[
                BadRequest.FieldViolation(field=v.subject, description=v.description)
                for v in violations
            ]
        ),
        QuotaFailure(
            violations=[
                QuotaFailure.Violation(subject=v.subject, description=v.description) for v in quotas
            ]
        ),
        PreconditionFailure(
            violations=[
                PreconditionFailure.Violation(subject=v.subject, description=v.description)
                for v in preconditions
            ]
        ),
        retry_after(delay),
        Help(),
    ]
    error = decoded_status(failure(code, message, *data.draw(st.permutations(details))))

    assert error.status is code
    assert error.message == message
    assert error.reason == reason
    assert error.metadata == {"job": "7"}
    assert error.violations == tuple(violations)
    assert error.quotas == tuple(quotas)
    assert error.preconditions == tuple(preconditions)
    assert error.retry_delay == delay


@given(
    code=st.sampled_from(_CODES),
    message=st.text(min_size=1),
    details=st.none() | st.binary(max_size=200),
)
def test_status_and_message_stand_whatever_the_details_are(
    code: grpc.StatusCode, message: str, details: bytes | None
) -> None:
    error = decoded(code, message, details)
    assert (error.status, error.message) == (code, message)


@given(junk=st.binary(min_size=1, max_size=50))
def test_a_malformed_detail_does_not_hide_the_others(junk: bytes) -> None:
    status = failure(grpc.StatusCode.ABORTED, "no", RetryInfo(), reason="LEASE_LOST")
    status.details[1].value = b"\xff" + junk
    assert decoded_status(status).reason == "LEASE_LOST"


def test_details_that_contradict_the_status_are_left_out() -> None:
    status = failure(grpc.StatusCode.ABORTED, "no", reason="LEASE_LOST")
    error = decoded(grpc.StatusCode.INTERNAL, "no", status.SerializeToString())
    assert (error.status, error.reason) == (grpc.StatusCode.INTERNAL, "")


def test_another_domain_gives_no_reason() -> None:
    foreign = ErrorInfo(reason="API_KEY_INVALID", domain="googleapis.com")
    assert decoded_status(failure(grpc.StatusCode.UNAUTHENTICATED, "no", foreign)).reason == ""


def test_its_text_says_nothing_twice() -> None:
    width = Violation("job.width", "63 is below 64")
    error = JobServiceError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "job.width: 63 is below 64 (and 1 more)",
        reason="INVALID_FIELDS",
        violations=(width, Violation("", "and 1 more")),
    )
    assert str(error) == "INVALID_ARGUMENT / INVALID_FIELDS: job.width: 63 is below 64; and 1 more"


def test_its_text_names_everything_a_log_needs() -> None:
    error = JobServiceError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "2 fields are wrong",
        reason="INVALID_FIELDS",
        violations=(Violation("job.width", "63 is below 64"), Violation("job.prompt", "is blank")),
    )
    assert str(error) == (
        "INVALID_ARGUMENT / INVALID_FIELDS: 2 fields are wrong; "
        "job.width: 63 is below 64; job.prompt: is blank"
    )
