"""JSON compared for what it says: numbers by value, however long, and keys that come twice."""

import json
import re
from decimal import Decimal
from typing import Any, Final

_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")


class Twice(dict[str, Any]):
    """An object with a key that it has more than once."""


def read(text: str) -> Any:
    """The document, numbers as exact decimals."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal, object_pairs_hook=_object)


def fits_jsonb(text: str) -> bool:
    """Whether jsonb can hold the document with nothing lost."""
    return _fits(read(text))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Twice(found)


def _fits(value: Any) -> bool:
    match value:
        case Twice():
            return False
        case dict():
            return all(_fits(key) and _fits(one) for key, one in value.items())
        case list():
            return all(map(_fits, value))
        case str():
            return "\0" not in value and _HALF_PAIR.search(value) is None
    return True
