"""``genjobs cancel``."""

from typing import Annotated

import typer
from generation_jobs.v1.job_pb2 import JobStatus

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.option_types import JobId, Json, read_text
from job_service.client.client import JobServiceClient


def cancel(
    context: typer.Context,
    job_id: JobId,
    reason: Annotated[
        str, typer.Option(parser=read_text, help="Why, for whoever reads the job later.")
    ] = "",
    json: Json = False,
) -> None:
    """Stop a job. One that already runs ends shortly after."""

    async def command(client: JobServiceClient) -> ExitCode:
        job = await client.cancel_job(job_id, reason)
        if json:
            console.print_json(job)
        elif job.status == JobStatus.JOB_STATUS_CANCELLED:
            console.stdout().print(f"Job {job_id} is cancelled.")
        else:
            console.stdout().print(
                f"Job {job_id} is running and has been told to stop. "
                f"'genjobs watch {job_id}' shows how it ends.",
                soft_wrap=True,
            )
        return ExitCode.OK

    session.run(context, command)
