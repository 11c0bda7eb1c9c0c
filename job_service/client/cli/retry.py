"""``genjobs retry``."""

import typer

from job_service.client.cli import session
from job_service.client.cli.changed_job import print_changed_job
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.option_types import JobId, Json
from job_service.client.client import JobServiceClient


def retry(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """Run a failed or cancelled job again, with a fresh budget of attempts."""

    async def command(client: JobServiceClient) -> ExitCode:
        print_changed_job(await client.retry_job(job_id), json=json)
        return ExitCode.OK

    session.run(context, command)
