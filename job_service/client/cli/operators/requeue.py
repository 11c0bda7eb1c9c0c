"""``genjobs requeue``."""

import typer

from job_service.client.cli import session
from job_service.client.cli.changed_job import print_changed_job
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.option_types import JobId, Json
from job_service.client.client import JobServiceClient


def requeue(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """Take a running job from its worker, uncharged, or run one again that ended badly."""

    async def command(client: JobServiceClient) -> ExitCode:
        print_changed_job(await client.operators.requeue_job(job_id), json=json)
        return ExitCode.OK

    session.run(context, command)
