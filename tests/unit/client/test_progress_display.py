"""Progress: a redrawn bar on a terminal, occasional lines elsewhere."""

import io
import math

import grpc
import pytest
from generation_jobs.v1.generation_job_service_pb2 import QueuePosition, WatchJobResponse
from generation_jobs.v1.job_error_pb2 import JobError
from generation_jobs.v1.job_pb2 import JobProgress, JobStatus, PendingReason, ProgressPhase
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from job_service.client import JobServiceError
from job_service.client.cli.progress_display import progress_display
from job_service.client.cli.standing import Standing, standing_of
from tests.unit.client.messages import a_job, completed, pending, running

_LOST = JobServiceError(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def shown(*updates: WatchJobResponse | JobServiceError, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=110, color_system=None)
    with progress_display(console, 7) as display:
        for update in updates:
            if isinstance(update, JobServiceError):
                display.interrupted(update)
            else:
                display.show(update)
    return output.getvalue()


def test_lines_come_when_something_else_is_done_and_at_each_tenth() -> None:
    steps = [running(step, 40) for step in range(41)]
    lines = shown(pending(), pending(), *steps, completed(), terminal=False).splitlines()
    assert lines == [
        "Job 7: waiting",
        *(f"Job 7: sampling, {tenth * 10}%, step {tenth * 4}/40" for tenth in range(11)),
        "Job 7: completed, 100%",
    ]


def test_an_interruption_is_one_line_and_so_is_its_end() -> None:
    lines = shown(running(1), _LOST, _LOST, running(1), terminal=False).splitlines()
    assert lines == [
        "Job 7: sampling, 10%, step 1/10",
        "Job 7: connection lost, trying again",
        "Job 7: sampling, 10%, step 1/10",
    ]


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (running(5), ["Job 7 sampling", "50%", "step 5/10"]),
        (completed(), ["Job 7 completed", "100%"]),
        (pending(pending_reason=PendingReason.PENDING_REASON_PAUSED), ["paused by an operator"]),
    ],
)
def test_the_bar_shows_the_last_update(update: WatchJobResponse, expected: list[str]) -> None:
    last = shown(running(1), update, terminal=True).split("\x1b[2K")[-1]
    assert [part for part in expected if part not in last] == []


def test_the_bar_shows_an_interruption() -> None:
    last = shown(running(1), _LOST, terminal=True).split("\x1b[2K")[-1]
    assert "connection lost, trying again" in last


def test_markup_and_escapes_of_others_are_only_text() -> None:
    hostile = pending(error=JobError(message="[red]x[/] \x1b]0;owned\x07"))
    for terminal in (True, False):
        text = shown(hostile, terminal=terminal)
        assert "[red]x[/] \ufffd]0;owned\ufffd" in text


def test_waiting_says_why_and_how_long() -> None:
    update = pending(pending_reason=PendingReason.PENDING_REASON_QUEUED)
    update.queue_position.CopyFrom(QueuePosition(jobs_ahead=3, estimated_wait=Duration(seconds=80)))
    assert standing_of(update) == Standing(
        "waiting for a free worker", "3 ahead, starts in about 1 min 20 s"
    )


def test_a_retry_says_what_went_wrong() -> None:
    update = pending(
        pending_reason=PendingReason.PENDING_REASON_RETRY_DELAY,
        error=JobError(message="The GPU ran out of memory."),
    )
    assert standing_of(update).headline == (
        "pausing before another attempt, after: The GPU ran out of memory."
    )


def test_running_says_attempt_and_cancel() -> None:
    update = running(2, attempt=2, cancel_requested_at=Timestamp(seconds=1))
    assert standing_of(update).headline == "being cancelled, sampling (attempt 2)"


def test_running_without_progress_says_who_has_it() -> None:
    job = a_job(JobStatus.JOB_STATUS_RUNNING, worker="box-1", attempt=1)
    assert standing_of(WatchJobResponse(job=job)) == Standing("taken by box-1")


@given(
    fraction=st.floats(),
    phase=st.integers(0, 20),
    numbers=st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    remaining=st.none() | st.integers(-100, 10**9),
    status=st.sampled_from([1, 2, 3, 99]),
)
@example(fraction=math.nan, phase=3, numbers=(1, 2), remaining=None, status=2)
@example(fraction=math.inf, phase=99, numbers=(9, 2), remaining=-1, status=2)
def test_no_progress_is_too_odd_to_show(
    *,
    fraction: float,
    phase: int,
    numbers: tuple[int, int],
    remaining: int | None,
    status: int,
) -> None:
    progress = JobProgress(
        fraction=fraction,
        phase=ProgressPhase.ValueType(phase),
        step=numbers[0],
        steps=numbers[1],
        remaining=None if remaining is None else Duration(seconds=remaining),
    )
    job = a_job(JobStatus.ValueType(status), progress=progress)
    for terminal in (True, False):
        assert "Job 7" in shown(WatchJobResponse(job=job), terminal=terminal)
