"""The command ``job-service``."""

import asyncio
import os
import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from job_service.cannot_run import CannotRunError
from job_service.jobs.principal import Role

if TYPE_CHECKING:
    from job_service.settings import Settings


class Running(StrEnum):
    """What becomes of former jobs that were at work."""

    REQUEUE = "requeue"
    FAIL = "fail"


app = typer.Typer(
    help="Serves generation jobs over gRPC. Settings: environment variables JOB_SERVICE_…, "
    "listed by `job-service config`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

tokens = typer.Typer(
    help="Make, list and revoke the tokens by which callers are known.", no_args_is_help=True
)
app.add_typer(tokens, name="token")

# Each command imports what it needs itself, so that --help and mistakes are answered at once.


@app.command()
def serve(
    migrate: Annotated[
        bool,
        typer.Option(
            "--migrate",
            help="Bring the schema of an external database up to date first. The embedded one "
            "always is. Also: JOB_SERVICE_MIGRATE=true.",
        ),
    ] = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from job_service import process

    settings = _settings()
    if migrate:
        settings = settings.model_copy(update={"migrate": True})
    asyncio.run(process.run(settings))


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date, and say which revision it is at.

    In a database with the tables of the former system: import them in place, with the cutover.
    """
    from job_service import process

    typer.echo(f"schema at revision {asyncio.run(process.migrate(_settings(), typer.echo))}")


@app.command("import-legacy")
def import_legacy(
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="Database with the former tables, postgresql://…; it is only read. Without it the "
            "former tables are in job_service's own database, and are imported in place. Its "
            "password is kept in ~/.pgpass: others on this machine can read command lines.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Go through everything, and write nothing.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a transaction.")] = 10_000,
    cutover: Annotated[
        bool,
        typer.Option(
            "--cutover",
            help="Bring over jobs that are not at rest, too, and, in place, put job_service's "
            "tables where the former ones are. These are kept in the schema legacy.",
        ),
    ] = False,
    running: Annotated[
        Running, typer.Option(help="What becomes of jobs that were at work.")
    ] = Running.REQUEUE,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Checkpoint for queued pictures that name none, as those of the oldest "
            "installations: without one they fail when a worker takes them.",
        ),
    ] = None,
    artifacts_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the files that former paths name: they are taken into the artifact "
            "store. Without it they stay references."
        ),
    ] = None,
    drop_legacy: Annotated[
        bool,
        typer.Option("--drop-legacy", help="Drop the former tables after a cutover in place."),
    ] = False,
    dump: Annotated[
        Path | None,
        typer.Option(help="File that --drop-legacy dumps to, and --undo restores from."),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Go back to how it was before the import.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="File to write the report to, as JSON.")
    ] = None,
    id_headroom: Annotated[
        int,
        typer.Option(
            min=0,
            help="Ids left free above the former jobs', for those the application still creates, "
            "before the ids of jobs that cannot keep theirs.",
        ),
    ] = 1_000_000,
) -> None:
    """Bring the jobs of the former system over; exit code 1 unless all of it is verified."""
    from job_service import process
    from job_service.legacy.command import Command
    from job_service.legacy.options import Options

    settings = _settings()

    def command(url: str) -> Command:
        return Command(
            options=Options(
                url=url,
                source_url=from_,
                dry_run=dry_run,
                batch=batch,
                cutover=cutover,
                running="pending" if running is Running.REQUEUE else "failed",
                artifacts_root=artifacts_root,
                artifact_store=settings.artifact_store,
                id_headroom=id_headroom,
                max_running=settings.max_running_per_user,
                checkpoint=checkpoint,
            ),
            undo=undo,
            drop=drop_legacy,
            dump=dump,
            report=report,
        )

    asyncio.run(process.import_legacy(settings, command, typer.echo))


@app.command()
def check() -> None:
    """Check database, schema and artifact store; exit code 1 when something is wrong."""
    from job_service import self_check

    findings = asyncio.run(self_check.run(_settings()))
    for finding in findings:
        typer.echo(f"{'ok    ' if finding.good else 'FAILED'}  {finding.subject}: {finding.says}")
        if finding.remedy:
            typer.echo(f"        → {finding.remedy}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


@app.command()
def config() -> None:
    """Print every setting and its value, without secrets."""
    from job_service.settings import Settings

    settings = _settings()
    for field, (name, value) in zip(
        Settings.model_fields.values(), settings.shown().items(), strict=True
    ):
        typer.echo(f"# {field.description}\n{name}={value}")


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for, as it will stand in logs.")],
    role: Annotated[
        Role,
        typer.Option(
            help="client: one user's own things. gateway: those of the user named in each call. "
            "worker: the worker protocol. admin: everything."
        ),
    ],
    user: Annotated[
        UUID | None, typer.Option(help="The user that a client's or an admin's token stands for.")
    ] = None,
    worker: Annotated[
        str,
        typer.Option(
            help="The only name that a worker with this token may have; default: that of the "
            "token. * for any: such a worker can take the place of every other."
        ),
    ] = "",
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="How long it counts; default: for ever.")
    ] = None,
    to_file: Annotated[
        Path | None,
        typer.Option(
            help="Add it to this tokens file (JOB_SERVICE_TOKENS_FILE), rather than to the "
            "database."
        ),
    ] = None,
) -> None:
    """Make a token and print it, once: only its hash is kept."""
    from job_service import token_commands

    lifetime = None if days is None else timedelta(days=days)
    if to_file is not None:
        token, said = token_commands.create_in_file(
            to_file, name, role, user_id=user, worker=worker, lifetime=lifetime
        )
    else:
        creating = token_commands.create(
            _settings(), name, role, user_id=user, worker=worker, lifetime=lifetime
        )
        token, said = asyncio.run(creating)
    typer.echo(said, err=True)
    typer.echo(token)


@tokens.command("list")
def list_tokens() -> None:
    """List every token, but not the tokens themselves: those are kept nowhere."""
    from job_service import token_commands

    titles = ("ID", "NAME", "ROLE", "FOR", "MADE", "LAST USED", "STATE")
    rows = [titles, *asyncio.run(token_commands.listed(_settings()))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


@tokens.command("revoke")
def revoke_token(
    token_id: Annotated[int, typer.Argument(metavar="ID", help="Its number in the list.")],
) -> None:
    """End a token of the database: its calls end, and new ones are refused.

    One of the tokens file ends when its line is taken out.
    """
    from job_service import token_commands

    asyncio.run(token_commands.revoke(_settings(), token_id))
    typer.echo(f"token {token_id} is revoked")


def _settings() -> "Settings":
    from job_service import log_output
    from job_service.settings import load, unknown_names

    for hint in unknown_names(os.environ):
        typer.echo(f"warning: {hint}", err=True)
    settings = load()
    log_output.configure(settings.log_level, settings.log_format)
    return settings


def main() -> None:
    """Run the command; what goes wrong in a foreseen way is a line, not a traceback."""
    try:
        app(prog_name="job-service")
    except CannotRunError as error:
        typer.echo(f"job-service: {error}", err=True)
        sys.exit(1)
