"""``genjobs fail``."""

from typing import Annotated

import typer

from job_service.client.cli import session
from job_service.client.cli.changed_job import print_changed_job
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.option_types import JobId, Json, read_text
from job_service.client.client import JobServiceClient


def fail(
    context: typer.Context,
    job_id: JobId,
    reason: Annotated[
        str,
        typer.Option(
            parser=read_text, metavar="TEXT", show_default=False, help="Why, for the job's user."
        ),
    ],
    json: Json = False,
) -> None:
    """End a job that has not ended, whatever its worker does."""

    async def command(client: JobServiceClient) -> ExitCode:
        print_changed_job(await client.operators.fail_job_now(job_id, reason), json=json)
        return ExitCode.OK

    session.run(context, command)
