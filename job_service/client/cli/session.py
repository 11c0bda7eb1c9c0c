"""One command's connection to the service, and how every way it can end is told."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import typer
from rich.text import Text

from job_service.client.channel import CredentialsError, Tls
from job_service.client.cli import console
from job_service.client.cli.error_report import report
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.client import JobServiceClient
from job_service.client.errors import JobServiceError

# Seconds; a person waits in front of it.
_RETRY_FOR = 3.0


@dataclass(frozen=True, slots=True)
class Connection:
    """The global options."""

    address: str
    token: str | None = None
    token_file: Path | None = None
    tls: Tls | None = None
    on_behalf_of: UUID | None = None
    token_in_clear: bool = False


def run(context: typer.Context, command: Callable[[JobServiceClient], Awaitable[ExitCode]]) -> None:
    """Run ``command`` on a connected client and leave with its exit code.

    Raises typer.Exit, always.
    """
    connection = context.find_object(Connection)
    if connection is None:
        raise RuntimeError("the command was called without the global options")
    raise typer.Exit(_run(connection, command))


def _run(
    connection: Connection, command: Callable[[JobServiceClient], Awaitable[ExitCode]]
) -> ExitCode:
    async def connected() -> ExitCode:
        async with JobServiceClient(
            connection.address,
            token=connection.token,
            token_file=connection.token_file,
            tls=connection.tls,
            on_behalf_of=connection.on_behalf_of,
            retry_for=_RETRY_FOR,
            token_in_clear=connection.token_in_clear,
        ) as client:
            return await command(client)

    try:
        return asyncio.run(connected())
    except JobServiceError as error:
        return report(console.stderr(), error, connection.address)
    except CredentialsError as error:
        return _complain(str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        return _complain(f"{error.filename or 'file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _complain(message: str) -> ExitCode:
    console.stderr().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    return ExitCode.USAGE
