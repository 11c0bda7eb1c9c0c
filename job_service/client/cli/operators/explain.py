"""``genjobs explain``."""

from collections.abc import Iterator
from datetime import UTC, datetime

import typer
from generation_jobs.v1.job_pb2 import JobStatus, PendingReason
from generation_jobs.v1.operator_service_pb2 import ExplainJobResponse
from rich.console import Group, RenderableType
from rich.text import Text

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.figures import age, duration, seconds_of
from job_service.client.cli.job_table import status_text
from job_service.client.cli.option_types import JobId, Json
from job_service.client.cli.tables import plain_grid
from job_service.client.cli.terminal_text import one_line, printable
from job_service.client.cli.words import WAITING_FOR, word
from job_service.client.client import JobServiceClient


def explain(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """Say why a job waits or where it runs, and what happens to it next."""

    async def command(client: JobServiceClient) -> ExitCode:
        explained = await client.operators.explain_job(job_id)
        if json:
            console.print_json(explained)
        else:
            console.stdout().print(explanation(explained, datetime.now(UTC)))
        return ExitCode.OK

    session.run(context, command)


def explanation(explained: ExplainJobResponse, now: datetime) -> RenderableType:
    """The sentences, then what they are drawn from."""
    grid = plain_grid()
    grid.add_row("Job", str(explained.job.id))
    grid.add_row("Status", status_text(explained.job))
    for name, value in _facts(explained, now):
        if value:
            grid.add_row(name, Text(one_line(value)))
    return Group(Text(printable(explained.explanation)), "", grid)


def _facts(explained: ExplainJobResponse, now: datetime) -> Iterator[tuple[str, str]]:
    if explained.pending_reason:
        reason = word(PendingReason, explained.pending_reason)
        yield "Waits for", WAITING_FOR.get(explained.pending_reason, reason)
    if explained.job.status == JobStatus.JOB_STATUS_PENDING:
        yield "Jobs ahead", f"{explained.jobs_ahead:,}"
        yield "Able workers", ", ".join(explained.able_workers) or "none"
        yield "Missing", ", ".join(explained.missing)
    yield "Worker", explained.worker
    if explained.HasField("last_beat_at"):
        yield "Last beat", age(explained.last_beat_at, now)
    yield "Backend", explained.comfyui_backend
    yield "Prompt id", explained.comfyui_prompt_id
    if explained.HasField("next_change"):
        yield "Next change", f"in {duration(seconds_of(explained.next_change))}"
