"""``genjobs list``."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from generation_jobs.v1.job_pb2 import JobFilter, JobStatus

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.job_table import job_table
from job_service.client.cli.option_types import STATUS_CHOICES, Json, read_status, read_text
from job_service.client.client import JobServiceClient

_LARGEST_LIMIT = 100_000


def list_jobs(
    context: typer.Context,
    user: Annotated[
        str | None,
        typer.Option(
            parser=read_text,
            metavar="UUID",
            show_default=False,
            help="Only this user's jobs. Default: every job you may see.",
        ),
    ] = None,
    status: Annotated[
        list[JobStatus.ValueType] | None,
        typer.Option(
            parser=read_status,
            metavar=STATUS_CHOICES,
            show_default=False,
            help="Only jobs in this state. May be repeated.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=_LARGEST_LIMIT, help="At most this many.")
    ] = 20,
    json: Json = False,
) -> None:
    """List jobs, newest first. With --json each is a GenerationJob on a line of its own."""
    matching = JobFilter(user_id=user or "", statuses=status or [])

    async def command(client: JobServiceClient) -> ExitCode:
        jobs = client.list_jobs(matching, limit=limit)
        if json:
            async for job in jobs:
                console.print_json(job, on_one_line=True)
            return ExitCode.OK
        rows = [job async for job in jobs]
        if rows:
            console.stdout().print(job_table(rows, datetime.now(UTC)))
        else:
            console.stderr().print("No jobs match.")
        return ExitCode.OK

    session.run(context, command)
