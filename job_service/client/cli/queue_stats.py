"""``genjobs queue``."""

import typer
from generation_jobs.v1.generation_job_service_pb2 import GetQueueStatsResponse
from rich.table import Table

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.figures import counted, duration, seconds_of
from job_service.client.cli.option_types import Json
from job_service.client.cli.tables import plain_grid
from job_service.client.client import JobServiceClient


def queue(context: typer.Context, json: Json = False) -> None:
    """Show what waits, what runs, and how long the queue will take."""

    async def command(client: JobServiceClient) -> ExitCode:
        stats = await client.queue_stats()
        if json:
            console.print_json(stats)
        else:
            console.stdout().print(queue_grid(stats))
        return ExitCode.OK

    session.run(context, command)


def queue_grid(stats: GetQueueStatsResponse) -> Table:
    """The state of the queue, a line for each number."""
    grid = plain_grid()
    oldest = (
        f", the oldest for {duration(seconds_of(stats.oldest_wait))}"
        if stats.HasField("oldest_wait")
        else ""
    )
    grid.add_row("Pending", f"{stats.pending:,}{oldest}")
    grid.add_row("Scheduled", f"{stats.scheduled:,}")
    unservable = " (no connected worker can run them)" if stats.unservable else ""
    grid.add_row("Unservable", f"{stats.unservable:,}{unservable}")
    grid.add_row("Running", f"{stats.running:,}")
    grid.add_row("Workers", f"{stats.live_workers:,} with {counted(stats.slots, 'slot')}")
    if stats.HasField("estimated_drain"):
        left = f"in about {duration(seconds_of(stats.estimated_drain))}"
    else:
        left = "nobody can tell yet" if stats.pending else "-"
    grid.add_row("Worked off", left)
    return grid
