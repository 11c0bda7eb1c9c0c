"""Graphs as JSON text, read and written without changing a number. Pure.

Python turns every number with a point or an exponent into a double and writes it its own way;
here a number whose digits say something else than Python would write keeps them.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from comfy_worker.comfyui.graph import Graph

_text_of: Final = json.encoder.encode_basestring_ascii


class GraphTextError(ValueError):
    """The text is no graph in ComfyUI's API format; says why."""


class WrittenFloat(float):
    """A number that is written back as ``text``."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "WrittenFloat":
        """Read ``text``."""
        number = super().__new__(cls, text)
        number.text = text
        return number


class WrittenInt(int):
    """A whole number that is written back as ``text``, such as -0."""

    text: str

    def __new__(cls, text: str) -> "WrittenInt":
        """Read ``text``."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def parse_graph(text: str) -> dict[str, dict[str, Any]]:
    """Read a graph; the order of keys stays, whole numbers may have any size.

    Raises GraphTextError: no JSON, nested too deeply, a key twice, NaN or Infinity, or not an
    object of nodes that have a class.
    """
    try:
        graph = json.loads(
            text,
            parse_float=_float,
            parse_int=_int,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise GraphTextError("the workflow is nested too deeply") from None
    except GraphTextError:
        raise
    except ValueError as error:  # JSONDecodeError, or a number of more than 4,300 digits
        raise GraphTextError(f"the workflow cannot be read: {error}") from None
    if not isinstance(graph, dict):
        raise GraphTextError("the workflow is not an object of nodes")
    for node_id, node in graph.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise GraphTextError(f"node {node_id[:100]!r} has no class_type")
        if not isinstance(node.get("inputs", {}), dict):
            raise GraphTextError(f"the inputs of node {node_id[:100]!r} are not an object")
    return graph


def write_json(value: Any) -> str:
    """Write JSON in which the numbers of a parsed graph stand as they were written.

    Goes as deep as the value does. Raises TypeError for what JSON has no word for.
    """
    parts: list[str] = []
    open_values: list[Iterator[str | _Nested]] = [_pieces(value)]
    while open_values:
        piece = next(open_values[-1], None)
        if piece is None:
            open_values.pop()
        elif isinstance(piece, _Nested):
            open_values.append(_pieces(piece.value))
        else:
            parts.append(piece)
    return "".join(parts)


class _Nested:
    """A value to be written where it stands."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _pieces(value: Any) -> Iterator["str | _Nested"]:
    """Yield a value's text, with what is inside it still to be written."""
    if isinstance(value, Mapping):
        separator = "{"
        for key, inner in value.items():
            yield f"{separator}{_text_of(key)}: "
            yield _Nested(inner)
            separator = ", "
        yield "}" if value else "{}"
    elif isinstance(value, list | tuple):
        separator = "["
        for inner in value:
            yield separator
            yield _Nested(inner)
            separator = ", "
        yield "]" if value else "[]"
    elif isinstance(value, WrittenFloat | WrittenInt):
        yield value.text
    else:
        yield json.dumps(value)


def with_texts_replaced(graph: Graph, texts: Mapping[str, str]) -> Graph:
    """Return the graph with every input value that is a key of ``texts`` replaced by its value.

    The value as a whole counts, not a part of it, wherever it stands below a node's inputs.
    """
    if not texts:
        return graph
    nodes: dict[str, Mapping[str, Any]] = {}
    for node_id, node in graph.items():
        copy = dict(node)
        if "inputs" in copy:
            copy["inputs"] = _replaced(copy["inputs"], texts)
        nodes[node_id] = copy
    return nodes


def texts_in(graph: Graph) -> Iterator[str]:
    """Yield every text among the input values, however deep."""
    pending: list[Any] = [node.get("inputs") for node in graph.values()]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value


def _replaced(value: Any, texts: Mapping[str, str]) -> Any:
    top: list[Any] = [value]
    pending: list[tuple[Any, Any]] = [(top, 0)]
    while pending:
        holder, key = pending.pop()
        inner = holder[key]
        if isinstance(inner, str):
            holder[key] = texts.get(inner, inner)
        elif isinstance(inner, dict):
            copy = holder[key] = dict(inner)
            pending += ((copy, name) for name in copy)
        elif isinstance(inner, list):
            items = holder[key] = list(inner)
            pending += ((items, index) for index in range(len(items)))
    return top[0]


def _float(text: str) -> float:
    number = float(text)
    return number if repr(number) == text else WrittenFloat(text)


def _int(text: str) -> int:
    number = int(text)
    return WrittenInt(text) if text == "-0" else number


def _refuse_constant(word: str) -> NoReturn:
    raise GraphTextError(f"the workflow holds {word}, which is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise GraphTextError(f"the workflow has the key {twice[:100]!r} twice in one object")
    return value
