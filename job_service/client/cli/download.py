"""``genjobs download``."""

from pathlib import Path
from typing import Annotated

import typer
from generation_jobs.v1.job_pb2 import JobStatus

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.option_types import JobId, OutputDirectory
from job_service.client.cli.saving import files_of, save
from job_service.client.cli.words import word
from job_service.client.client import JobServiceClient

Thumbnails = Annotated[bool, typer.Option("--thumbnails", help="Save the thumbnails as well.")]


def download(
    context: typer.Context,
    job_id: JobId,
    output: OutputDirectory = None,
    thumbnails: Thumbnails = False,
) -> None:
    """Save the files of a job as {job id}-{position}-{name}, by default in this directory."""

    async def command(client: JobServiceClient) -> ExitCode:
        job = await client.get_job(job_id)
        artifacts = files_of(job, thumbnails=thumbnails)
        if not artifacts:
            console.stderr().print(
                f"Job {job_id} is {word(JobStatus, job.status)} and has no files. "
                f"'genjobs get {job_id}' shows more.",
                soft_wrap=True,
            )
            return ExitCode.JOB_NOT_COMPLETED
        await save(client, artifacts, output or Path(), console.stdout())
        return ExitCode.OK

    session.run(context, command)
