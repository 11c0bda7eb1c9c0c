"""Options that several commands take, and parsers in the form typer wants them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from generation_jobs.v1.job_pb2 import JobStatus, JobType

from job_service.client.cli.option_syntax import OptionSyntaxError, parse_int, valid_text
from job_service.client.cli.words import ProtoEnum, words

_Value = TypeVar("_Value")


def reading(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Make ``parse`` tell typer what is wrong with a value."""

    def parse_option(text: str) -> _Value:
        try:
            return parse(text)
        except OptionSyntaxError as error:
            raise typer.BadParameter(str(error)) from error

    return parse_option


def _number(enum: ProtoEnum, text: str) -> int:
    number = words(enum).get(text.lower())
    if number is None:
        raise OptionSyntaxError(f"{text!r} is none of {', '.join(words(enum))}")
    return number


def _status(text: str) -> JobStatus.ValueType:
    return JobStatus.ValueType(_number(JobStatus, text))


def _job_type(text: str) -> JobType.ValueType:
    return JobType.ValueType(_number(JobType, text))


def _id(text: str) -> int:
    number = parse_int(text, bits=64)
    if number < 1:
        raise OptionSyntaxError("ids begin at 1")
    return number


read_int32 = reading(partial(parse_int, bits=32))
read_int64 = reading(partial(parse_int, bits=64))
read_text = reading(valid_text)
read_status = reading(_status)
read_job_type = reading(_job_type)
read_job_id = reading(_id)
STATUS_CHOICES = "|".join(words(JobStatus))
JOB_TYPE_CHOICES = "|".join(words(JobType))

JobId = Annotated[
    int,
    typer.Argument(parser=read_job_id, metavar="ID", help="Id of the job.", show_default=False),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print protobuf JSON with the contract's field names.")
]
OutputDirectory = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        file_okay=False,
        show_default=False,
        help="Where files are saved; made if it is missing.",
    ),
]
