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
    if several_users:
        table.add_column("User", no_wrap=True)
    table.add_column("Size", no_wrap=True)
    table.add_column("Checkpoint", no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column("Prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for job in jobs:
        users = [Text(one_line(job.user_id))] if several_users else []
        table.add_row(
            str(job.id),
            status_text(job),
            age(job.created_at, now),
            *users,
            pixels(job.width, job.height),
            Text(one_line(job.checkpoint_model)),
            Text(one_line(job.prompt)),
        )
    return table


def status_text(job: GenerationJob) -> Text:
    """Answer the status in its colour, with the percentage while the job runs."""
    text = word(JobStatus, job.status)
    if job.status == JobStatus.JOB_STATUS_RUNNING and job.HasField("progress"):
        text += f" {job.progress.fraction:.0%}"
    return Text(text, style=STATUS_STYLES.get(job.status, ""))
