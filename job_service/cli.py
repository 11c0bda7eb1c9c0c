"""The command ``job-service``."""

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from job_service.cannot_run import CannotRunError

if TYPE_CHECKING:
    from job_service.settings import Settings

app = typer.Typer(
    help="Serves generation jobs over gRPC. Settings: environment variables JOB_SERVICE_…, "
    "listed by `job-service config`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
    """Bring the database's schema up to date, and say which revision it is at."""
    from job_service import process

    typer.echo(f"schema at revision {asyncio.run(process.migrate(_settings()))}")


@app.command()
def check() -> None:
    """Check database, schema and artifact store; exit code 1 when something is wrong."""
    from job_service import self_check

    findings = asyncio.run(self_check.run(_settings()))
    for finding in findings:
        typer.echo(f"{'ok    ' if finding.good else 'FAILED'}  {finding.subject}: {finding.says}")
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
