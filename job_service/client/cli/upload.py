"""``genjobs upload``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.figures import pixels, size
from job_service.client.cli.option_types import Json
from job_service.client.cli.submit_options import User
from job_service.client.cli.terminal_text import one_line
from job_service.client.client import JobServiceClient

File = Annotated[
    Path,
    typer.Argument(
        exists=True,
        dir_okay=False,
        readable=True,
        metavar="FILE",
        help="A PNG, JPEG, WebP, GIF, BMP or TIFF picture.",
        show_default=False,
    ),
]


def upload(context: typer.Context, file: File, user: User = "", json: Json = False) -> None:
    """Store a picture that jobs can start from: 'genjobs submit --input NAME=id:ID' names it.

    The same picture is stored once. It is removed when no job has referred to it for a time.
    """

    async def command(client: JobServiceClient) -> ExitCode:
        asset = await client.upload_input(file, user_id=user)
        if json:
            console.print_json(asset)
        else:
            told = (
                f"Input {asset.id} is {one_line(asset.filename)}, {asset.content_type},"
                f" {pixels(asset.width, asset.height)}, {size(asset.size)}."
            )
            console.stdout().print(Text(told), soft_wrap=True)
        return ExitCode.OK

    session.run(context, command)
