"""Everything about a job, readable in each of its states."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from generation_jobs.v1.job_error_pb2 import ErrorCode, JobError, NodeInputError
from generation_jobs.v1.job_pb2 import (
    GenerationJob,
    JobProgress,
    JobStatus,
    JobType,
    PendingReason,
    ProgressPhase,
    TemplateRef,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from job_service.client.cli.job_details import job_details
from tests.unit.client.messages import a_job

_NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def rows_of(job: GenerationJob) -> dict[str, str]:
    output = io.StringIO()
    Console(file=output, width=160, color_system=None).print(job_details(job, _NOW))
    rows = (line.split(maxsplit=1) for line in output.getvalue().splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"pending_reason": PendingReason.PENDING_REASON_USER_LIMIT},
            {"Waits": "for  waiting for another job of the same user to end"},
        ),
        ({"pending_reason": 99}, {"Waits": "for  unknown (99)"}),
        (
            {
                "status": JobStatus.JOB_STATUS_RUNNING,
                "worker": "box-1",
                "progress": JobProgress(
                    fraction=0.4,
                    phase=ProgressPhase.PROGRESS_PHASE_SAMPLING,
                    step=4,
                    steps=10,
                    remaining=Duration(seconds=70),
                ),
            },
            {
                "Status": "running 40%",
                "Progress": "40%, sampling, step 4/10, about 1 min 10 s left",
                "Backend": "box-1",
            },
        ),
        ({"status": 99}, {"Status": "unknown (99)"}),
        ({"job_type": JobType.JOB_TYPE_VIDEO}, {"Type": "video"}),
        ({"workflow_json": "{}" * 600}, {"Workflow": "its own, 1.2 kB"}),
        ({"template": TemplateRef(name="poster", version=3)}, {"Template": "poster, version 3"}),
        ({"params_json": '{"a": 1}'}, {"Parameters": '{"a": 1}'}),
        ({"priority": -5}, {"Priority": "-5"}),
        ({"prompt": "[bold]x[/]\x1b[2J"}, {"Prompt": "[bold]x[/]\ufffd[2J"}),
    ],
)
def test_what_a_state_is_about(fields: dict[str, Any], expected: dict[str, str]) -> None:
    rows = rows_of(a_job(**{"status": JobStatus.JOB_STATUS_PENDING, **fields}))
    assert {name: rows.get(name) for name in expected} == expected


def test_times_are_relative_too() -> None:
    scheduled = Timestamp(seconds=int(_NOW.timestamp()) + 7_200)
    rows = rows_of(a_job(JobStatus.JOB_STATUS_PENDING, scheduled_at=scheduled))
    assert rows["Scheduled"].endswith("(in 2 h)")
    assert "Created" not in rows


def test_a_failure_says_what_and_where() -> None:
    error = JobError(
        code=ErrorCode.ERROR_CODE_INVALID_WORKFLOW,
        message="ComfyUI refused the graph.",
        node_input_errors=[
            NodeInputError(node_type="KSampler", input_name="steps", message="is above 10000")
        ],
    )
    output = io.StringIO()
    job = a_job(JobStatus.JOB_STATUS_FAILED, error=error)
    Console(file=output, width=160, color_system=None).print(job_details(job, _NOW))
    assert "ComfyUI refused the graph. (invalid_workflow)" in output.getvalue()
    assert "KSampler.steps: is above 10000" in output.getvalue()
