"""The small languages of option values: LoRAs, labels, lengths and points of time."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from generation_jobs.v1.job_pb2 import Lora

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_LENGTH = re.compile(r"(?:[0-9]{1,9}[smhd])+")
_LENGTH_PART = re.compile(r"([0-9]+)([smhd])")


class Label(NamedTuple):
    """One label of a job."""

    key: str
    value: str


class TemplateName(NamedTuple):
    """A template, and which of its versions; 0: the newest."""

    name: str
    version: int


class Argument(NamedTuple):
    """A value for a parameter of a template, as JSON text."""

    name: str
    value_json: str


class NamedInput(NamedTuple):
    """A picture a job starts from: a file to upload, or the id of one that is stored."""

    name: str
    source: Path | int


class OptionSyntaxError(ValueError):
    """A value that is not of the form its option takes; the message says which form."""


def valid_text(text: str) -> str:
    """Answer ``text``, or raise OptionSyntaxError if it did not come as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise OptionSyntaxError("this is not valid UTF-8 text") from error
    return text


def parse_int(text: str, *, bits: int) -> int:
    """Read a whole number that fits a signed field of ``bits`` bits."""
    if not _INTEGER.fullmatch(text):
        raise OptionSyntaxError(f"{text!r} is not a whole number")
    number = int(text)
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise OptionSyntaxError(f"{text} does not fit into {bits} bits")
    return number


def parse_lora(text: str) -> Lora:
    """Read NAME[:MODEL[:CLIP]]; a name may hold colons if both strengths are given."""
    name, *strengths = valid_text(text).rsplit(":", 2)
    if not name:
        raise OptionSyntaxError("the LoRA has no name; write NAME[:MODEL[:CLIP]]")
    model = _strength(strengths[0]) if strengths else None
    clip = _strength(strengths[1]) if len(strengths) > 1 else None
    return Lora(name=name, strength_model=model, strength_clip=clip)


def format_lora(lora: Lora) -> str:
    """Answer the text ``parse_lora`` reads, with as much as is needed."""
    given = [lora.name]
    if lora.HasField("strength_model"):
        given.append(repr(lora.strength_model))
        if lora.HasField("strength_clip"):
            given.append(repr(lora.strength_clip))
    return ":".join(given)


def parse_label(text: str) -> Label:
    """Read KEY=VALUE; the value may be empty or hold further equals signs."""
    key, equals, value = valid_text(text).partition("=")
    if not (equals and key):
        raise OptionSyntaxError(f"{text!r} is not of the form KEY=VALUE")
    return Label(key, value)


def distinct_labels(pairs: list[Label]) -> dict[str, str]:
    """Gather labels; raise OptionSyntaxError if one key has two values."""
    labels: dict[str, str] = {}
    for key, value in pairs:
        if labels.setdefault(key, value) != value:
            raise OptionSyntaxError(f"{key!r} is given twice: {labels[key]!r} and {value!r}")
    return labels


def parse_input(text: str) -> NamedInput:
    """Read NAME=FILE, or NAME=id:ID."""
    name, equals, value = valid_text(text).partition("=")
    if not (equals and name and value):
        raise OptionSyntaxError(f"{text!r} is not of the form NAME=FILE")
    if value.startswith("id:"):
        return NamedInput(name, parse_int(value.removeprefix("id:"), bits=64))
    return NamedInput(name, Path(value))


def parse_template(text: str) -> TemplateName:
    """Read NAME, or NAME@VERSION."""
    name, at, version = valid_text(text).partition("@")
    if not name or (at and not version):
        raise OptionSyntaxError(f"{text!r} is not of the form NAME[@VERSION]")
    return TemplateName(name, parse_int(version, bits=32) if at else 0)


def parse_argument(text: str) -> Argument:
    """Read NAME=VALUE; a value that is not JSON is text."""
    name, equals, value = valid_text(text).partition("=")
    if not (equals and name):
        raise OptionSyntaxError(f"{text!r} is not of the form NAME=VALUE")
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        value = json.dumps(value)
    return Argument(name, value)


def arguments_json(arguments: list[Argument]) -> str:
    """One JSON object of all; raise OptionSyntaxError if one name has two values.

    Values are put together as text, so that every number stays as it was written.
    """
    values: dict[str, str] = {}
    for name, value in arguments:
        if values.setdefault(name, value) != value:
            raise OptionSyntaxError(f"{name!r} is given twice: {values[name]} and {value}")
    inside = ", ".join(f"{json.dumps(name)}: {value}" for name, value in values.items())
    return "{" + inside + "}"


def parse_length(text: str) -> timedelta:
    """Read a length of time: numbers with s, m, h or d, for example "90s" or "1h30m"."""
    if not _LENGTH.fullmatch(text):
        raise OptionSyntaxError(f'{text!r} is not a length of time like "90s", "15m" or "1h30m"')
    seconds = sum(int(number) * _UNIT_SECONDS[unit] for number, unit in _LENGTH_PART.findall(text))
    try:
        return timedelta(seconds=seconds)
    except OverflowError as error:
        raise OptionSyntaxError(f"{text!r} is too long") from error


def parse_moment(text: str) -> datetime:
    """Read a point of time: ISO 8601 (local unless a zone is given), or a length from now.

    "2026-05-01T18:00", "2026-05-01T18:00+02:00", "2h".
    """
    try:
        if _LENGTH.fullmatch(text):
            return datetime.now(UTC) + parse_length(text)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise OptionSyntaxError(
            f'{text!r} is neither a time like "2026-05-01T18:00" nor a length like "2h"'
        ) from error


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text or text != text.strip():
        raise OptionSyntaxError(
            f"{text!r} is not a strength; write NAME[:MODEL[:CLIP]], "
            "with both strengths if the name holds a colon"
        )
    return value
