"""``genjobs watch``."""

import typer

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.follow import follow
from job_service.client.cli.json_lines import JsonLines
from job_service.client.cli.option_types import JobId, Json
from job_service.client.cli.outcome import outcome_code, print_outcome
from job_service.client.cli.progress_display import progress_display
from job_service.client.client import JobServiceClient


def watch(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """Follow a job until it has ended. Ctrl-C leaves the job alone.

    With --json every update is a WatchJobResponse on a line of its own.
    """

    async def command(client: JobServiceClient) -> ExitCode:
        output = console.stdout()
        job = await follow(
            client, job_id, JsonLines() if json else progress_display(output, job_id)
        )
        if not json:
            print_outcome(output, job)
            if job.artifacts:
                output.print(f"'genjobs download {job_id}' saves them.")
        return outcome_code(job)

    session.run(context, command)
