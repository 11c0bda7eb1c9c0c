"""``genjobs attempts``."""

from collections.abc import Iterator, Sequence

import typer
from generation_jobs.v1.attempt_pb2 import Attempt
from rich.console import Group, RenderableType
from rich.text import Text

from job_service.client.cli import console, session
from job_service.client.cli.attempt_table import attempt_table
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.option_types import JobId, Json
from job_service.client.cli.outcome import error_lines
from job_service.client.cli.terminal_text import one_line, printable
from job_service.client.client import JobServiceClient


def attempts(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """List the attempts of a job. With --json each is an Attempt on a line of its own."""

    async def command(client: JobServiceClient) -> ExitCode:
        tried = await client.operators.list_attempts(job_id)
        if json:
            for attempt in tried:
                console.print_json(attempt, on_one_line=True)
        elif tried:
            console.stdout().print(attempt_details(tried))
        else:
            console.stderr().print(f"Job {job_id} has not been tried yet.")
        return ExitCode.OK

    session.run(context, command)


def attempt_details(attempts: Sequence[Attempt]) -> RenderableType:
    """The attempts as a table, then the prompt of each and what an operator needs of its error."""
    lines = [line for attempt in attempts for line in _lines(attempt)]
    return Group(attempt_table(attempts), *map(Text, lines))


def _lines(attempt: Attempt) -> Iterator[str]:
    if not (attempt.comfyui_prompt_id or attempt.HasField("error")):
        return
    yield f"Attempt {attempt.attempt}, prompt {one_line(attempt.comfyui_prompt_id) or 'unknown'}"
    if attempt.HasField("error"):
        yield from error_lines(attempt.error)
        for line in printable(attempt.error.technical_details).splitlines():
            yield f"  | {line}"
