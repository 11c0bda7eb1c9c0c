"""The list of jobs is one line for each, at any width, with what matters readable."""

import io
from datetime import UTC, datetime
from typing import Any

from generation_jobs.v1.job_pb2 import GenerationJob, JobStatus
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from job_service.client.cli.job_table import job_table
from tests.unit.client.messages import a_job, running

_NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def lines_of(*jobs: GenerationJob, width: int) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=width, color_system=None).print(job_table(jobs, _NOW))
    return [line for line in output.getvalue().splitlines() if line.strip()][2:]


@given(
    prompt=st.text(max_size=300),
    checkpoint=st.text(max_size=300),
    width=st.integers(80, 200),
)
def test_a_job_is_one_line_with_id_status_and_size(
    prompt: str, checkpoint: str, width: int
) -> None:
    fields: dict[str, Any] = {
        "prompt": prompt,
        "checkpoint_model": checkpoint,
        "width": 832,
        "height": 1216,
    }
    jobs = [running(4, id=1_234_567, **fields).job, a_job(JobStatus.JOB_STATUS_CANCELLED, **fields)]
    lines = lines_of(*jobs, width=width)

    assert len(lines) == 2
    assert lines[0].split()[:3] == ["1234567", "running", "40%"]
    assert lines[1].split()[:2] == ["7", "cancelled"]
    assert all("832x1216" in line for line in lines)


def test_a_long_prompt_is_cut_off_where_the_line_ends() -> None:
    (line,) = lines_of(a_job(JobStatus.JOB_STATUS_PENDING, prompt="lighthouse " * 30), width=100)
    assert line.rstrip().endswith("…")
    assert line.count("lighthouse") >= 3


def test_the_user_is_shown_where_there_are_several() -> None:
    one, other = (a_job(JobStatus.JOB_STATUS_PENDING, user_id=user) for user in ("ada", "bob"))
    assert "ada" in lines_of(one, other, width=100)[0]
    assert "ada" not in lines_of(one, one, width=100)[0]
