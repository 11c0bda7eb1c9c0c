"""``genjobs get``."""

from datetime import UTC, datetime

import typer

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.job_details import job_details
from job_service.client.cli.option_types import JobId, Json
from job_service.client.client import JobServiceClient


def get(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """Show everything about a job."""

    async def command(client: JobServiceClient) -> ExitCode:
        job = await client.get_job(job_id)
        if json:
            console.print_json(job)
        else:
            console.stdout().print(job_details(job, datetime.now(UTC)))
        return ExitCode.OK

    session.run(context, command)
