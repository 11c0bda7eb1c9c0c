"""Jobs as a table."""

from collections.abc import Sequence
from datetime import datetime

from generation_jobs.v1.job_pb2 import GenerationJob, JobStatus
from rich import box
from rich.table import Table
from rich.text import Text

from job_service.client.cli.figures import age, pixels
from job_service.client.cli.terminal_text import one_line
from job_service.client.cli.words import STATUS_STYLES, word


def job_table(jobs: Sequence[GenerationJob], now: datetime) -> Table:
    """One row for each job; the user only where there are several."""
    several_users = len({job.user_id for job in jobs}) > 1
    table = Table(box=box.SIMPLE_HEAD, expand=False, pad_edge=False)
    table.add_column("ID", justify="right", no_wrap=True)
    table.add_column("Status", no_wrap=True)
    table.add_column("Created", no_wrap=True)
    # rich narrows columns that may wrap; the texts in these are cut off instead.
    if several_users:
        table.add_column("User")
    table.add_column("Size", no_wrap=True)
    table.add_column("Checkpoint", max_width=28)
    table.add_column("Prompt", min_width=10)
    for job in jobs:
        users = [_cut_off(job.user_id)] if several_users else []
        table.add_row(
            str(job.id),
            status_text(job),
            age(job.created_at, now),
            *users,
            pixels(job.width, job.height),
            _cut_off(job.checkpoint_model),
            _cut_off(job.prompt),
        )
    return table


def _cut_off(text: str) -> Text:
    return Text(one_line(text), no_wrap=True, overflow="ellipsis")


def status_text(job: GenerationJob) -> Text:
    """Answer the status in its colour, with the percentage while the job runs."""
    text = word(JobStatus, job.status)
    if job.status == JobStatus.JOB_STATUS_RUNNING and job.HasField("progress"):
        text += f" {job.progress.fraction:.0%}"
    return Text(text, style=STATUS_STYLES.get(job.status, ""))
