"""The options of ``genjobs submit``: one for each field a client may set on a job."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from generation_jobs.v1.job_pb2 import JobType, Lora

from job_service.client.cli.option_syntax import (
    Argument,
    Label,
    NamedInput,
    TemplateName,
    parse_argument,
    parse_input,
    parse_label,
    parse_length,
    parse_lora,
    parse_moment,
    parse_template,
)
from job_service.client.cli.option_types import (
    JOB_TYPE_CHOICES,
    read_int32,
    read_int64,
    read_job_type,
    read_text,
    reading,
)

_PICTURE = "What to make"
_SAMPLING = "How it is sampled"
_RUNNING = "When and where it runs"

Prompt = Annotated[
    str,
    typer.Option(
        "--prompt",
        "-p",
        parser=read_text,
        metavar="TEXT",
        show_default=False,
        rich_help_panel=_PICTURE,
        help="What the picture shows.",
    ),
]
Negative = Annotated[
    str,
    typer.Option(
        parser=read_text, metavar="TEXT", rich_help_panel=_PICTURE, help="What to keep out of it."
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        "-c",
        parser=read_text,
        metavar="TEXT",
        rich_help_panel=_PICTURE,
        help="The model as ComfyUI lists it. Needed unless --workflow or --template has its own.",
    ),
]
Loras = Annotated[
    list[Lora] | None,
    typer.Option(
        parser=reading(parse_lora),
        metavar="NAME[:MODEL[:CLIP]]",
        show_default=False,
        rich_help_panel=_PICTURE,
        help="A LoRA and its strengths (0.8). May be repeated; applied in this order.",
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        parser=read_int32,
        metavar="N",
        show_default=False,
        rich_help_panel=_PICTURE,
        help="Pixels, a multiple of 8. Default: 832.",
    ),
]
Height = Annotated[
    int | None,
    typer.Option(
        parser=read_int32,
        metavar="N",
        show_default=False,
        rich_help_panel=_PICTURE,
        help="Pixels, a multiple of 8. Default: 1216.",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        parser=read_int32,
        metavar="N",
        show_default=False,
        rich_help_panel=_PICTURE,
        help="How many pictures. Default: 1.",
    ),
]
Workflow = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        readable=True,
        metavar="FILE",
        show_default=False,
        rich_help_panel=_PICTURE,
        help="A whole graph to run instead of the built-in one: ComfyUI's API format, or what its "
        "user interface saves.",
    ),
]
Template = Annotated[
    TemplateName | None,
    typer.Option(
        parser=reading(parse_template),
        metavar="NAME[@VERSION]",
        show_default=False,
        rich_help_panel=_PICTURE,
        help="A stored or built-in workflow to run; 'genjobs templates' lists them.",
    ),
]
Arguments = Annotated[
    list[Argument] | None,
    typer.Option(
        "--arg",
        parser=reading(parse_argument),
        metavar="NAME=VALUE",
        show_default=False,
        rich_help_panel=_PICTURE,
        help="A value for a parameter of the template, as JSON or text. May be repeated.",
    ),
]
Inputs = Annotated[
    list[NamedInput] | None,
    typer.Option(
        "--input",
        parser=reading(parse_input),
        metavar="NAME=FILE",
        show_default=False,
        rich_help_panel=_PICTURE,
        help='A picture to start from, uploaded first; "NAME=id:7" names one that is. May be '
        "repeated.",
    ),
]
Params = Annotated[
    str,
    typer.Option(
        parser=read_text,
        metavar="JSON",
        rich_help_panel=_PICTURE,
        help="Free parameters, as a JSON object.",
    ),
]
Type = Annotated[
    JobType.ValueType | None,
    typer.Option(
        "--type",
        parser=read_job_type,
        metavar=JOB_TYPE_CHOICES,
        show_default=False,
        rich_help_panel=_PICTURE,
        help="What is generated. Default: image.",
    ),
]

Seed = Annotated[
    int | None,
    typer.Option(
        parser=read_int64,
        metavar="N",
        show_default=False,
        rich_help_panel=_SAMPLING,
        help="The same seed gives the same picture; -1 draws one. Default: drawn.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        parser=read_int32,
        metavar="N",
        show_default=False,
        rich_help_panel=_SAMPLING,
        help="Sampling steps. Default: 28.",
    ),
]
Cfg = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=_SAMPLING,
        help="Guidance scale. Default: 5.5.",
    ),
]
SamplerName = Annotated[
    str,
    typer.Option(
        parser=read_text,
        metavar="TEXT",
        show_default=False,
        rich_help_panel=_SAMPLING,
        help="Sampler as ComfyUI lists it. Default: euler.",
    ),
]
Scheduler = Annotated[
    str,
    typer.Option(
        parser=read_text,
        metavar="TEXT",
        show_default=False,
        rich_help_panel=_SAMPLING,
        help="Noise schedule as ComfyUI lists it. Default: normal.",
    ),
]
Denoise = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=_SAMPLING,
        help="How much of the picture is replaced, 0 to 1. Default: 1.0.",
    ),
]

Priority = Annotated[
    int | None,
    typer.Option(
        parser=read_int32,
        metavar="N",
        show_default=False,
        rich_help_panel=_RUNNING,
        help="-100 to 100; higher goes first. Default: 0.",
    ),
]
Labels = Annotated[
    list[Label] | None,
    typer.Option(
        "--label",
        parser=reading(parse_label),
        metavar="KEY=VALUE",
        show_default=False,
        rich_help_panel=_RUNNING,
        help="A note on the job, to find it by. May be repeated.",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        parser=read_text,
        metavar="TEXT",
        show_default=False,
        rich_help_panel=_RUNNING,
        help="The kind of worker wanted. Default: comfyui.",
    ),
]
User = Annotated[
    str,
    typer.Option(
        parser=read_text,
        metavar="UUID",
        rich_help_panel=_RUNNING,
        help="Whose job it is, if not yours; for gateways and admins.",
    ),
]
ScheduledAt = Annotated[
    datetime | None,
    typer.Option(
        parser=reading(parse_moment),
        metavar="TIME",
        show_default=False,
        rich_help_panel=_RUNNING,
        help='Do not start before: "2026-05-01T18:00", or "2h" from now.',
    ),
]
ExpiresAt = Annotated[
    datetime | None,
    typer.Option(
        parser=reading(parse_moment),
        metavar="TIME",
        show_default=False,
        rich_help_panel=_RUNNING,
        help="Give up if it has not started by then.",
    ),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(
        parser=read_int32,
        metavar="N",
        show_default=False,
        rich_help_panel=_RUNNING,
        help="Attempts before it fails. Default: 3.",
    ),
]
AttemptTimeout = Annotated[
    timedelta | None,
    typer.Option(
        parser=reading(parse_length),
        metavar="LENGTH",
        show_default=False,
        rich_help_panel=_RUNNING,
        help='How long one attempt may run: "90s", "1h30m". Default: 15m.',
    ),
]
RequestId = Annotated[
    str | None,
    typer.Option(
        parser=read_text,
        metavar="TEXT",
        show_default=False,
        rich_help_panel=_RUNNING,
        help="Submitting again with the same id answers the job stored first. Default: drawn.",
    ),
]
