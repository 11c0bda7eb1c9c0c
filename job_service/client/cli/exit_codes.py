"""What the exit code of ``genjobs`` says."""

from enum import IntEnum

import grpc

from job_service.client.errors import JobServiceError


class ExitCode(IntEnum):
    """Stable: scripts depend on them. ``HELP`` is their text for people."""

    OK = 0
    JOB_NOT_COMPLETED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130


HELP = (
    "Exit codes: 0 done · 1 the job failed or was cancelled · 2 wrong usage, or a file that "
    "cannot be read or written · 3 the service cannot be reached · 4 the service refused the "
    "request · 130 interrupted with Ctrl-C"
)

_UNANSWERED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def exit_code_of(error: JobServiceError) -> ExitCode:
    """Tell whether the service was not there, or was and said no."""
    return ExitCode.UNREACHABLE if error.status in _UNANSWERED else ExitCode.REFUSED
