"""The command ``comfy-worker``."""

import asyncio
import os
import sys

import typer

from comfy_worker import log_output, self_check, worker
from comfy_worker.cannot_run import CannotRunError
from comfy_worker.settings import LogLevel, Settings, load, unknown_names

app = typer.Typer(
    help="Runs generation jobs on ComfyUI. Settings: environment variables COMFY_WORKER_…, "
    "listed by `comfy-worker config`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def run() -> None:
    """Take jobs and run them until SIGTERM or Ctrl-C, then finish what runs."""
    settings = _settings()
    log_output.configure(settings.log_level, settings.log_format)
    asyncio.run(worker.run(settings))


@app.command()
def check() -> None:
    """Check that job_service and every ComfyUI can be reached; exit code 1 when one cannot."""
    settings = _settings()
    log_output.configure(LogLevel.ERROR, settings.log_format)
    findings = asyncio.run(self_check.run(settings))
    for finding in findings:
        typer.echo(f"{'ok    ' if finding.good else 'FAILED'}  {finding.subject}: {finding.says}")
        if finding.remedy:
            typer.echo(f"        → {finding.remedy}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


@app.command()
def config() -> None:
    """Print every setting and its value, without secrets."""
    shown = _settings().shown()
    for field, (name, value) in zip(Settings.model_fields.values(), shown.items(), strict=True):
        typer.echo(f"# {field.description}\n{name}={value}")


def _settings() -> Settings:
    for hint in unknown_names(os.environ):
        typer.echo(f"warning: {hint}", err=True)
    return load()


def main() -> None:
    """Run the command; what goes wrong in a foreseen way is a line, not a traceback."""
    try:
        app(prog_name="comfy-worker")
    except CannotRunError as error:
        typer.echo(f"comfy-worker: {error}", err=True)
        sys.exit(1)
