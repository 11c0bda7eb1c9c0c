"""``genjobs pause`` and ``genjobs unpause``."""

import shlex
from typing import Annotated

import typer
from generation_jobs.v1.operator_service_pb2 import DispatchSelector

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.figures import counted
from job_service.client.cli.option_types import Json, read_text
from job_service.client.cli.terminal_text import one_line
from job_service.client.client import JobServiceClient

Backend = Annotated[
    str | None,
    typer.Option(
        parser=read_text, metavar="TEXT", show_default=False, help="Jobs for this kind of worker."
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        parser=read_text, metavar="TEXT", show_default=False, help="Jobs with this checkpoint."
    ),
]


def pause(
    context: typer.Context,
    backend: Backend = None,
    checkpoint: Checkpoint = None,
    reason: Annotated[
        str, typer.Option(parser=read_text, metavar="TEXT", help="Why, for other operators.")
    ] = "",
    json: Json = False,
) -> None:
    """Keep jobs of a backend or checkpoint waiting. What runs goes on."""
    selector = _selector(backend, checkpoint)

    async def command(client: JobServiceClient) -> ExitCode:
        paused = await client.operators.pause_dispatch(selector, reason)
        if json:
            console.print_json(paused)
        else:
            waiting = counted(paused.affected_pending, "pending job")
            console.stdout().print(
                f"Paused; {waiting} affected. To end that: {_undo(selector)}",
                markup=False,
                soft_wrap=True,
            )
        return ExitCode.OK

    session.run(context, command)


def unpause(
    context: typer.Context,
    backend: Backend = None,
    checkpoint: Checkpoint = None,
    json: Json = False,
) -> None:
    """End a pause; named as it was paused."""
    selector = _selector(backend, checkpoint)

    async def command(client: JobServiceClient) -> ExitCode:
        resumed = await client.operators.resume_dispatch(selector)
        if json:
            console.print_json(resumed)
        else:
            waiting = counted(resumed.affected_pending, "pending job")
            console.stdout().print(f"Not paused any more; {waiting} can be dispatched again.")
        return ExitCode.OK

    session.run(context, command)


def _selector(backend: str | None, checkpoint: str | None) -> DispatchSelector:
    if backend is not None and checkpoint is None:
        return DispatchSelector(backend_label=backend)
    if checkpoint is not None and backend is None:
        return DispatchSelector(checkpoint_model=checkpoint)
    raise typer.BadParameter("give one of the two", param_hint="--backend / --checkpoint")


def _undo(selector: DispatchSelector) -> str:
    option, value = (
        ("--backend", selector.backend_label)
        if selector.HasField("backend_label")
        else ("--checkpoint", selector.checkpoint_model)
    )
    return f"genjobs unpause {option} {one_line(shlex.quote(value))}"
