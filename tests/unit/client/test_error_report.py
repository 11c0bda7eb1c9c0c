"""What a person reads when a call fails."""

import grpc
import pytest
from generation_jobs.v1.error_reason_pb2 import ErrorReason
from hypothesis import given
from hypothesis import strategies as st

from job_service.client import JobServiceError, Violation
from job_service.client.cli.error_report import report_lines
from job_service.client.cli.exit_codes import ExitCode, exit_code_of
from job_service.client.cli.words import words

_violations = st.lists(st.builds(Violation, st.text(), st.text()), max_size=10).map(tuple)


@given(
    status=st.sampled_from(grpc.StatusCode),
    message=st.text(),
    reason=st.text() | st.sampled_from([name.upper() for name in words(ErrorReason)]),
    violations=_violations,
    quotas=_violations,
)
def test_every_violation_has_a_line_of_its_own(
    *,
    status: grpc.StatusCode,
    message: str,
    reason: str,
    violations: tuple[Violation, ...],
    quotas: tuple[Violation, ...],
) -> None:
    error = JobServiceError(status, message, reason=reason, violations=violations, quotas=quotas)
    lines = report_lines(error, "localhost:1")

    named = [line for line in lines[1:] if line.startswith("  ")]
    assert len(named) >= len(violations) + len(quotas)
    assert all(len(line.splitlines()) == 1 for line in lines)
    assert not lines[-1].startswith("  ")  # what to do next


def test_wrong_fields() -> None:
    error = JobServiceError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "2 fields are wrong",
        reason="INVALID_FIELDS",
        violations=(Violation("job.width", "63 is below 64"), Violation("job.prompt", "is blank")),
    )
    assert report_lines(error, "localhost:1") == [
        "2 fields are wrong (INVALID_FIELDS)",
        "  job.width: 63 is below 64",
        "  job.prompt: is blank",
        "Correct what is named above and try again.",
    ]


def test_a_message_that_is_the_first_violation_is_not_said_twice() -> None:
    error = JobServiceError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "job.width: 63 is below 64 (and 1 more)",
        reason="INVALID_FIELDS",
        violations=(Violation("job.width", "63 is below 64"), Violation("", "and 1 more")),
    )
    assert report_lines(error, "localhost:1")[:3] == [
        "the request is not valid (INVALID_FIELDS)",
        "  job.width: 63 is below 64",
        "  and 1 more",
    ]


def test_nobody_there() -> None:
    error = JobServiceError(grpc.StatusCode.UNAVAILABLE, "Connection refused")
    lines = report_lines(error, "localhost:1")
    assert lines[:2] == ["the service at localhost:1 does not answer", "  Connection refused"]
    assert "GENJOBS_ADDRESS" in lines[2]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.UNAVAILABLE, ExitCode.UNREACHABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ExitCode.UNREACHABLE),
        (grpc.StatusCode.INVALID_ARGUMENT, ExitCode.REFUSED),
        (grpc.StatusCode.NOT_FOUND, ExitCode.REFUSED),
        (grpc.StatusCode.INTERNAL, ExitCode.REFUSED),
    ],
)
def test_exit_codes(status: grpc.StatusCode, code: ExitCode) -> None:
    assert exit_code_of(JobServiceError(status, "no")) is code
