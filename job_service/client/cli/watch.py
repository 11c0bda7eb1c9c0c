"""``genjobs watch``."""

from typing import Annotated

import typer
from generation_jobs.v1.generation_job_service_pb2 import WatchJobResponse

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.follow import follow
from job_service.client.cli.json_lines import JsonLines
from job_service.client.cli.option_types import Json, read_job_id
from job_service.client.cli.outcome import outcome_code, print_outcome
from job_service.client.cli.progress_display import PlainLines, progress_display
from job_service.client.client import JobServiceClient


def watch(
    context: typer.Context,
    job_id: Annotated[
        int | None,
        typer.Argument(
            parser=read_job_id,
            metavar="[ID]",
            help="Id of the job. Default: every job you may see, from now on.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Follow a job until it has ended, or all jobs. Ctrl-C leaves them alone.

    With --json every update is a WatchJobResponse (of all jobs a WatchJobsResponse) on a line of
    its own.
    """
    if job_id is None:
        session.run(context, _watch_all_json if json else _watch_all)
        return

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


async def _watch_all_json(client: JobServiceClient) -> ExitCode:
    async for update in client.watch_jobs(
        changes_only=True, on_interruption=JsonLines().interrupted
    ):
        if not update.HasField("keep_alive"):
            console.print_json(update, on_one_line=True)
    return ExitCode.OK


async def _watch_all(client: JobServiceClient) -> ExitCode:
    output = console.stdout()
    shown: dict[int, PlainLines] = {}
    async for update in client.watch_jobs(
        changes_only=True, on_interruption=JsonLines().interrupted
    ):
        if update.HasField("job"):
            display = shown.setdefault(update.job.id, PlainLines(output, update.job.id))
            display.show(WatchJobResponse(job=update.job))
            if update.job.HasField("completed_at"):
                del shown[update.job.id]
        elif update.removed_job_id:
            shown.pop(update.removed_job_id, None)
            output.print(f"Job {update.removed_job_id}: deleted")
    return ExitCode.OK
