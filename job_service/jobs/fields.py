"""Checks of single fields that note what is wrong and go on, so that a caller sees all of it."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn
from uuid import UUID

from google.protobuf import duration_pb2, timestamp_pb2

from job_service.jobs import limits
from job_service.jobs.refusals import Violation, invalid_fields


class FieldChecks:
    """Collects what is wrong with the fields of one request."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def wrong(self, path: str, description: str) -> None:
        """Note that the field at ``path`` is wrong."""
        self._violations.append(Violation(path, description))

    def raise_if_wrong(self) -> None:
        """Raise INVALID_FIELDS with everything noted, if anything was."""
        if self._violations:
            raise invalid_fields(self._violations)

    def text(self, path: str, value: str, *, longest: int, shortest: int = 0) -> str:
        """Text of ``shortest`` to ``longest`` characters that PostgreSQL can store."""
        if "\0" in value:
            self.wrong(path, "must not contain the character NUL (U+0000)")
        elif len(value) > longest:
            self.wrong(path, f"must have at most {longest:,} characters, has {len(value):,}")
        elif len(value) < shortest:
            self.wrong(
                path,
                "is required"
                if not value
                else f"must have at least {shortest} characters, has {len(value)}",
            )
        return value

    def filename(self, path: str, value: str) -> str:
        """The name of a file, of 1 to 255 characters, without folders."""
        self.text(path, value, shortest=1, longest=limits.MAX_NAME)
        if "/" in value or "\\" in value or value in (".", ".."):
            self.wrong(path, "must not name a folder")
        return value

    def integer(self, path: str, value: int, *, low: int, high: int, multiple_of: int = 1) -> int:
        """A whole number between ``low`` and ``high``, both allowed."""
        if not low <= value <= high:
            self.wrong(path, f"must be {low:,} to {high:,}, is {value:,}")
        elif value % multiple_of:
            self.wrong(path, f"must be a multiple of {multiple_of}, is {value:,}")
        return value

    def number(self, path: str, value: float, *, low: float, high: float) -> float:
        """A number between ``low`` and ``high``, both allowed; not NaN."""
        if not low <= value <= high:  # also true for NaN
            self.wrong(path, f"must be {low:g} to {high:g}, is {value:g}")
        return value

    def uuid(self, path: str, value: str) -> UUID | None:
        """A UUID in text form."""
        try:
            return UUID(value)
        except ValueError:
            self.wrong(path, "must be a UUID, for example 123e4567-e89b-12d3-a456-426614174000")
            return None

    def enum(self, path: str, value: int, words: Mapping[Any, str]) -> str | None:
        """The table's word for a wire value."""
        word = words.get(value)
        if word is None:
            self.wrong(path, f"has the unknown value {value}")
        return word

    def timestamp(self, path: str, value: timestamp_pb2.Timestamp) -> datetime | None:
        """A point in time between the years 1 and 9999."""
        try:
            value.ToJsonString()  # refuses what ToDatetime would put right: nanos out of range
            return value.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.wrong(path, "is not a valid timestamp")
            return None

    def duration(
        self, path: str, value: duration_pb2.Duration, *, low: timedelta, high: timedelta
    ) -> timedelta:
        """A span of time between ``low`` and ``high``, both allowed."""
        try:
            value.ToJsonString()  # refuses what ToTimedelta would put right: mixed signs
            span = value.ToTimedelta()
        except (ValueError, OverflowError):
            self.wrong(path, "is not a valid duration")
            return low
        if not low <= span <= high:
            self.wrong(
                path,
                f"must be {_seconds(low)} to {_seconds(high)} seconds, is {_seconds(span)}",
            )
        return span

    def json_object(self, path: str, text: str, *, max_bytes: int) -> dict[str, Any]:
        """A JSON object as PostgreSQL's jsonb takes it: finite numbers, no NUL, no half pairs."""
        if len(text.encode()) > max_bytes:
            self.wrong(path, f"must have at most {max_bytes:,} bytes, has {len(text.encode()):,}")
            return {}
        try:
            parsed = _JSON.decode(text)
        except (ValueError, RecursionError) as error:
            self.wrong(path, f"is not valid JSON: {error}")
            return {}
        if not isinstance(parsed, dict):
            self.wrong(path, "must be a JSON object")
            return {}
        problem = _unstorable(parsed)
        if problem:
            self.wrong(path, problem)
            return {}
        return parsed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"the number {literal[:32]} is too large")
    return number


#: Made once: that takes longer than most texts.
_JSON: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _unstorable(value: object, depth: int = 0) -> str | None:
    """Why jsonb would refuse ``value``; None: it would not."""
    if depth > 64:
        return "must not be nested deeper than 64 levels"
    match value:
        case str():
            if "\0" in value:
                return "must not contain the character NUL (U+0000)"
            if any("\ud800" <= character <= "\udfff" for character in value):
                return "must not contain half of a surrogate pair"
            return None
        case dict():
            children = [*value.keys(), *value.values()]
        case list():
            children = value
        case _:
            return None
    return next(filter(None, (_unstorable(child, depth + 1) for child in children)), None)


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.15g}"
