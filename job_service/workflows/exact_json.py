"""JSON that comes out as it went in: numbers keep their text, objects the order of their keys."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from job_service.workflows.problems import path_of

MAX_DEPTH: Final = 64
_LONGEST_NUMBER: Final = 100
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_quote: Final = json.JSONEncoder(ensure_ascii=False).encode


class InvalidJsonError(ValueError):
    """The text is not JSON, or is nested too deep; the message says where."""


class ExactNumber(float):
    """A number that is not a plain integer, with the text it was written as."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "ExactNumber":
        """Read ``text``, also ``NaN`` and ``-Infinity``."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    @property
    def is_finite(self) -> bool:
        """Whether it is a number that JSON has and a double can hold."""
        return float("-inf") < self < float("inf")


class _OversizedInteger(int):
    """Stands for an integer of more than 100 digits."""


class ExactObject(dict[str, Any]):
    """A JSON object, with the keys that it has more than once."""

    __slots__ = ("repeated",)
    repeated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flaw:
    """A part of a document that no job may have; ``keys`` lead to it from the top."""

    keys: tuple[str | int, ...]
    description: str
    not_finite: bool = False

    @property
    def path(self) -> str:
        """The keys as text."""
        return path_of(*self.keys)


def loads(text: str) -> Any:
    """Read a document.

    Integers become ``int``, other numbers ``ExactNumber``, objects ``ExactObject``. Raises
    InvalidJsonError. What it accepts may still have flaws: see :func:`flaws`.
    """
    _refuse_depth(text)
    try:
        return json.loads(
            text,
            parse_int=_integer,
            parse_float=ExactNumber,
            parse_constant=ExactNumber,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise InvalidJsonError(
            f"is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error


def dumps(value: Any, separators: tuple[str, str] = (", ", ": ")) -> str:
    """Write a document on one line; numbers as they were read."""
    between, after_key = separators
    out: list[str] = []
    # What is still to be written, last first: finished text, or (value,).
    rest: list[str | tuple[Any]] = [(value,)]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            out.append(item)
            continue
        (value,) = item
        if isinstance(value, dict):
            out.append("{")
            parts: list[str | tuple[Any]] = []
            for key, each in value.items():
                parts += [f"{between if parts else ''}{_quote(key)}{after_key}", (each,)]
            rest += ["}", *reversed(parts)]
        elif isinstance(value, list | tuple):
            out.append("[")
            parts = []
            for each in value:
                parts += [between, (each,)] if parts else [(each,)]
            rest += ["]", *reversed(parts)]
        elif isinstance(value, ExactNumber):
            out.append(value.text)
        else:
            out.append(_quote(value))
    return "".join(out)


def flaws(document: Any) -> Iterator[Flaw]:
    """Find repeated keys, NUL, half surrogate pairs, and numbers that are none or too large."""
    rest: list[tuple[Any, _Keys]] = [(document, None)]
    while rest:
        value, keys = rest.pop()
        if isinstance(value, dict):
            for key in getattr(value, "repeated", ()):
                yield Flaw(_unrolled((keys, key)), "is there more than once")
            for key in value:
                flaw = _text_flaw(key)
                if flaw:
                    yield Flaw(_unrolled((keys, key)), f"its name {flaw}")
            rest += [(each, (keys, key)) for key, each in reversed(value.items())]
        elif isinstance(value, list):
            rest += [(each, (keys, index)) for index, each in enumerate(value)][::-1]
        else:
            flaw = _text_flaw(value) if isinstance(value, str) else _number_flaw(value)
            if flaw:
                not_finite = isinstance(value, ExactNumber) and not value.is_finite
                yield Flaw(_unrolled(keys), flaw, not_finite)


# Keys from the innermost outwards, so that going down costs nothing: (outer keys, key).
_Keys = tuple["_Keys", str | int] | None


def _unrolled(keys: _Keys) -> tuple[str | int, ...]:
    found: list[str | int] = []
    while keys is not None:
        keys, key = keys
        found.append(key)
    return tuple(reversed(found))


def _text_flaw(text: str) -> str | None:
    if "\0" in text:
        return "must not contain the character NUL (U+0000)"
    if not text.isascii() and _SURROGATE.search(text):
        return "must not contain half of a surrogate pair"
    return None


def _number_flaw(value: Any) -> str | None:
    match value:
        case _OversizedInteger():
            return f"has more than {_LONGEST_NUMBER} digits"
        case ExactNumber():
            if not value.is_finite:
                return f"is {value.text[:32]}, not a finite number"
            if len(value.text) > _LONGEST_NUMBER:
                return f"has more than {_LONGEST_NUMBER} digits"
    return None


def _integer(text: str) -> int | float:
    if len(text) > _LONGEST_NUMBER:
        return _OversizedInteger()
    # Python's integers have no minus zero.
    return ExactNumber(text) if text == "-0" else int(text)


def _object(pairs: list[tuple[str, Any]]) -> ExactObject:
    read = ExactObject(pairs)
    read.repeated = ()
    if len(read) < len(pairs):
        seen: set[str] = set()
        twice: dict[str, None] = {}
        for key, _ in pairs:
            if key in seen:
                twice[key] = None
            seen.add(key)
        read.repeated = tuple(twice)
    return read


def _refuse_depth(text: str) -> None:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        bracket = token[0]
        if bracket in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                line = text.count("\n", 0, token.start()) + 1
                raise InvalidJsonError(f"is nested deeper than {MAX_DEPTH} levels (in line {line})")
        elif bracket in "]}":
            depth -= 1
