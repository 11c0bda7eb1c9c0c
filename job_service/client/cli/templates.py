"""``genjobs templates``."""

from collections.abc import Iterable
from typing import Annotated

import typer
from generation_jobs.v1.workflow_template_pb2 import ParameterType, TemplateParameter
from rich.table import Table
from rich.text import Text

from job_service.client.cli import console, session
from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.option_syntax import TemplateName, parse_template
from job_service.client.cli.option_types import Json, reading
from job_service.client.cli.tables import plain_table
from job_service.client.cli.terminal_text import one_line
from job_service.client.cli.words import word
from job_service.client.client import JobServiceClient


def templates(
    context: typer.Context,
    template: Annotated[
        TemplateName | None,
        typer.Argument(
            parser=reading(parse_template),
            metavar="[NAME[@VERSION]]",
            show_default=False,
            help="Show the parameters of this one.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List workflow templates, or show one. With --json one is printed with its graph."""

    async def list_all(client: JobServiceClient) -> ExitCode:
        table = plain_table("NAME", "VERSION", "WHAT IT IS FOR")
        async for each in client.list_templates():
            if json:
                console.print_json(each, on_one_line=True)
            else:
                table.add_row(each.name, str(each.version), Text(one_line(each.description)))
        if not json:
            console.stdout().print(table)
        return ExitCode.OK

    async def show(client: JobServiceClient) -> ExitCode:
        assert template is not None
        found = await client.get_template(template.name, template.version)
        if json:
            console.print_json(found)
        else:
            described = f"{found.name}, version {found.version}: {one_line(found.description)}"
            console.stdout().print(Text(described))
            console.stdout().print(_parameters(found.parameters))
        return ExitCode.OK

    session.run(context, list_all if template is None else show)


def _parameters(parameters: Iterable[TemplateParameter]) -> Table:
    table = plain_table("PARAMETER", "TYPE", "VALUES", "WHAT IT DOES")
    for each in parameters:
        values = [
            f"from {each.minimum:g}" if each.HasField("minimum") else "",
            f"to {each.maximum:g}" if each.HasField("maximum") else "",
            f"one of {', '.join(each.choices_json)}" if each.choices_json else "",
            f"default {each.default_json}" if each.default_json else "",
            "required" if each.required else "",
        ]
        kind = word(ParameterType, each.type)
        told = (", ".join(filter(None, values)), each.description)
        table.add_row(each.name, kind, *(Text(one_line(text)) for text in told))
    return table
