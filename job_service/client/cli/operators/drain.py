"""``genjobs drain`` and ``genjobs resume``."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from generation_jobs.v1.operator_service_pb2 import Worker

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.figures import age, counted
from job_service.client.cli.option_types import Json, read_text
from job_service.client.cli.terminal_text import one_line
from job_service.client.client import JobServiceClient

WorkerName = Annotated[
    str,
    typer.Argument(
        parser=read_text, metavar="NAME", help="Name of the worker.", show_default=False
    ),
]


def drain(context: typer.Context, name: WorkerName, json: Json = False) -> None:
    """Have a worker take no more jobs. It finishes what it has, and stays so until 'resume'."""

    async def command(client: JobServiceClient) -> ExitCode:
        worker = await client.operators.drain_worker(name)
        if json:
            console.print_json(worker)
        else:
            console.stdout().print(_drained(worker), markup=False, soft_wrap=True)
        return ExitCode.OK

    session.run(context, command)


def resume(context: typer.Context, name: WorkerName, json: Json = False) -> None:
    """Let a drained worker take jobs again."""

    async def command(client: JobServiceClient) -> ExitCode:
        worker = await client.operators.resume_worker(name)
        if json:
            console.print_json(worker)
        else:
            console.stdout().print(_resumed(worker), markup=False, soft_wrap=True)
        return ExitCode.OK

    session.run(context, command)


def _drained(worker: Worker) -> str:
    name = one_line(worker.name)
    if not worker.live:
        then = f"It was last heard of {age(worker.last_beat_at, datetime.now(UTC))}."
    elif worker.job_ids:
        then = f"It finishes the {counted(len(worker.job_ids), 'job')} it has."
    else:
        then = "It has none left."
    return f"Worker {name} takes no more jobs. {then} 'genjobs resume {name}' ends that."


def _resumed(worker: Worker) -> str:
    name = one_line(worker.name)
    if not worker.live:
        heard = age(worker.last_beat_at, datetime.now(UTC))
        return f"Worker {name} takes jobs again once it is back. It was last heard of {heard}."
    if worker.draining:
        return f"Worker {name} is shutting down. Its successor takes jobs again."
    return f"Worker {name} takes jobs again."
