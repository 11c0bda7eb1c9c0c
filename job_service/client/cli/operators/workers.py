"""``genjobs workers``."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.operators.worker_table import worker_table
from job_service.client.cli.option_types import Json
from job_service.client.client import JobServiceClient


def workers(
    context: typer.Context,
    include_gone: Annotated[
        bool, typer.Option("--all", "-a", help="Also workers that have not been heard of lately.")
    ] = False,
    json: Json = False,
) -> None:
    """List workers by name. With --json each is a Worker on a line of its own.

    Jobs are those it runs of those it can hold at once; the checkpoint is the one each ComfyUI
    was given last.
    """

    async def command(client: JobServiceClient) -> ExitCode:
        found = await client.operators.list_workers(include_gone=include_gone)
        if json:
            for worker in found:
                console.print_json(worker, on_one_line=True)
        elif found:
            console.stdout().print(worker_table(found, datetime.now(UTC)))
        elif include_gone:
            console.stderr().print("No worker has ever connected.")
        else:
            console.stderr().print("No worker is connected. --all shows those that were.")
        return ExitCode.OK

    session.run(context, command)
