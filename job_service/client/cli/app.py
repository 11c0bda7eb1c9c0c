"""The wiring of ``genjobs``: global options and commands."""

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from job_service.client.channel import Tls
from job_service.client.cli.cancel import cancel
from job_service.client.cli.download import download
from job_service.client.cli.exit_codes import HELP
from job_service.client.cli.get import get
from job_service.client.cli.list_jobs import list_jobs
from job_service.client.cli.operators.attempts import attempts
from job_service.client.cli.operators.drain import drain, resume
from job_service.client.cli.operators.explain import explain
from job_service.client.cli.operators.fail import fail
from job_service.client.cli.operators.pause import pause, unpause
from job_service.client.cli.operators.requeue import requeue
from job_service.client.cli.operators.workers import workers
from job_service.client.cli.queue_stats import queue
from job_service.client.cli.retry import retry
from job_service.client.cli.session import Connection
from job_service.client.cli.submit import submit
from job_service.client.cli.templates import templates
from job_service.client.cli.upload import upload
from job_service.client.cli.watch import watch

app = typer.Typer(
    name="genjobs",
    help="Generation jobs: submit, follow, look at, cancel and download; and operate the service.",
    epilog=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"genjobs {importlib.metadata.version('generation-jobs')}")
        raise typer.Exit


@app.callback()
def connect(
    context: typer.Context,
    address: Annotated[
        str,
        typer.Option(
            envvar="GENJOBS_ADDRESS",
            metavar="HOST:PORT",
            help="Where the service is; grpcs://HOST:PORT for TLS.",
        ),
    ] = "127.0.0.1:50051",
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="GENJOBS_TOKEN_FILE",
            metavar="FILE",
            dir_okay=False,
            show_default=False,
            help="File that holds your token. Or the token itself in GENJOBS_TOKEN: on the command "
            "line, others on this machine would see it.",
        ),
    ] = None,
    token_in_clear: Annotated[
        bool,
        typer.Option(
            "--token-in-clear",
            envvar="GENJOBS_TOKEN_IN_CLEAR",
            help="Send the token to another machine without TLS, where the way there is trusted.",
        ),
    ] = False,
    on_behalf_of: Annotated[
        UUID | None,
        typer.Option(
            envvar="GENJOBS_ON_BEHALF_OF",
            metavar="USER",
            show_default=False,
            help="The user to act for; for gateways and admins.",
        ),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="GENJOBS_TLS_CA",
            metavar="FILE",
            dir_okay=False,
            show_default=False,
            help="PEM file of root certificates to trust; switches TLS on.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="GENJOBS_TLS_CERT",
            metavar="FILE",
            dir_okay=False,
            show_default=False,
            help="PEM file of your certificate, where the service asks for one.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            envvar="GENJOBS_TLS_KEY",
            metavar="FILE",
            dir_okay=False,
            show_default=False,
            help="PEM file of its key.",
        ),
    ] = None,
    tls_server_name: Annotated[
        str | None,
        typer.Option(
            envvar="GENJOBS_TLS_SERVER_NAME",
            metavar="NAME",
            show_default=False,
            help="Name in the service's certificate, where that is not the address.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Remember the global options for the command."""
    if address.startswith(("http://", "https://")):
        raise typer.BadParameter(
            "write HOST:PORT, without http://, or grpcs://HOST:PORT for TLS",
            param_hint="--address",
        )
    tls = Tls(ca=tls_ca, certificate=tls_cert, key=tls_key, server_name=tls_server_name)
    context.obj = Connection(
        address,
        token=os.environ.get("GENJOBS_TOKEN") or None if token_file is None else None,
        token_file=token_file,
        tls=tls if tls != Tls() else None,
        on_behalf_of=on_behalf_of,
        token_in_clear=token_in_clear,
    )


_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Commands": {
        "submit": submit,
        "upload": upload,
        "watch": watch,
        "get": get,
        "list": list_jobs,
        "cancel": cancel,
        "retry": retry,
        "download": download,
        "templates": templates,
        "queue": queue,
    },
    "For operators": {
        "workers": workers,
        "drain": drain,
        "resume": resume,
        "explain": explain,
        "attempts": attempts,
        "requeue": requeue,
        "fail": fail,
        "pause": pause,
        "unpause": unpause,
    },
}

for panel, commands in _COMMANDS.items():
    for name, command in commands.items():
        app.command(name, epilog=HELP, rich_help_panel=panel)(command)


def main() -> None:
    """Run ``genjobs`` with the arguments of this process."""
    app()
