"""What a saved workflow holds, read into one shape whatever its version."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from job_service.workflows.problems import InvalidWorkflowError, Problem, path_of

WHAT_TO_DO: Final = 'in ComfyUI choose "Workflow → Export (API)" and send that file'
# Ids that stand for the two ends of a subgraph instead of a node.
SUBGRAPH_INPUT: Final = "-10"
SUBGRAPH_OUTPUT: Final = "-20"

_NORMAL_MODES: Final = frozenset({0, 1, 3})


class Mode(IntEnum):
    """Whether a node is run; the numbers are the format's."""

    ALWAYS = 0
    MUTED = 2
    BYPASSED = 4


@dataclass(frozen=True, slots=True)
class Slot:
    """An input or output of a node; ``link`` is the id of the link into an input."""

    name: str
    type: str
    link: int | None = None
    is_widget: bool = False


@dataclass(frozen=True, slots=True)
class SavedLink:
    """A link inside one graph; node ids as text."""

    origin_id: str
    origin_slot: int
    target_id: str
    target_slot: int


@dataclass(frozen=True, slots=True)
class SavedNode:
    """A node as it was saved; ``path`` leads to it in the document."""

    id: str
    type: str
    mode: Mode
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    widget_values: list[Any] | dict[str, Any]
    title: str
    path: str


@dataclass(frozen=True, slots=True)
class SavedGraph:
    """The workflow itself or a subgraph; the latter has inputs and outputs of its own."""

    nodes: Mapping[str, SavedNode]
    links: Mapping[int, SavedLink]
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()
    links_by_end: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Links into the subgraph's outputs: (``SUBGRAPH_OUTPUT``, slot) → link."""


@dataclass(frozen=True, slots=True)
class SavedWorkflow:
    """A whole document: the graph, and subgraphs by the id that nodes have as their type."""

    graph: SavedGraph
    subgraphs: Mapping[str, SavedGraph]


def is_ui_format(document: Any) -> bool:
    """Whether a document is what ComfyUI's user interface saves."""
    return isinstance(document, dict) and isinstance(document.get("nodes"), list)


def cannot(path: str, why: str) -> InvalidWorkflowError:
    """What to raise when a saved workflow cannot be converted without guessing."""
    return InvalidWorkflowError([Problem(path, f"{why}: {WHAT_TO_DO}")])


def read(document: Mapping[str, Any]) -> SavedWorkflow:
    """Read a document. Raises InvalidWorkflowError where it is not of the format."""
    definitions = document.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs: dict[str, SavedGraph] = {}
    for index, each in enumerate(_objects(listed or [], "definitions.subgraphs")):
        at = f"definitions.subgraphs[{index}]"
        identity = each.get("id")
        if not isinstance(identity, str) or identity in subgraphs:
            raise _malformed(f"{at}.id")
        subgraphs[identity] = _graph(each, at)
    return SavedWorkflow(_graph(document, ""), subgraphs)


def _graph(graph: Mapping[str, Any], at: str) -> SavedGraph:
    nodes: dict[str, SavedNode] = {}
    for index, each in enumerate(_objects(graph.get("nodes"), _below(at, "nodes"))):
        node = _node(each, _below(at, f"nodes[{index}]"))
        if node.id in nodes:
            raise _malformed(f"{node.path}.id")
        nodes[node.id] = node
    links: dict[int, SavedLink] = {}
    listed = graph.get("links")
    if not isinstance(listed, list):
        raise _malformed(_below(at, "links"))
    for index, each in enumerate(listed):
        identity, link = _link(each, _below(at, f"links[{index}]"))
        links[identity] = link
    return SavedGraph(
        nodes,
        links,
        tuple(_slots(graph.get("inputs"), _below(at, "inputs"))) if at else (),
        tuple(_slots(graph.get("outputs"), _below(at, "outputs"))) if at else (),
        {
            (link.target_id, link.target_slot): identity
            for identity, link in links.items()
            if link.target_id == SUBGRAPH_OUTPUT
        },
    )


def _node(node: Mapping[str, Any], path: str) -> SavedNode:
    class_type, mode = node.get("type"), node.get("mode", 0)
    identity = _identity(node.get("id"))
    if identity is None or not isinstance(class_type, str):
        raise _malformed(path)
    if mode not in _NORMAL_MODES and mode not in tuple(Mode):
        raise cannot(f"{path}.mode", "is none of the known modes")
    values = node.get("widgets_values")
    title = node.get("title")
    return SavedNode(
        identity,
        class_type,
        Mode.ALWAYS if mode in _NORMAL_MODES else Mode(mode),
        tuple(_slots(node.get("inputs"), f"{path}.inputs")),
        tuple(_slots(node.get("outputs"), f"{path}.outputs")),
        values if isinstance(values, list | dict) else [],
        title if isinstance(title, str) and title else class_type,
        path,
    )


def _slots(slots: Any, path: str) -> Iterator[Slot]:
    for index, each in enumerate(_objects(slots or [], path)):
        name, kind, link = each.get("name"), each.get("type"), each.get("link")
        if not isinstance(name, str) or not (link is None or _is_whole(link)):
            raise _malformed(f"{path}[{index}]")
        # An older spelling of a COMBO is the list of its values; 0 and -1 are "any".
        text = kind if isinstance(kind, str) else "COMBO" if isinstance(kind, list) else "*"
        yield Slot(name, text, link, isinstance(each.get("widget"), dict))


def _link(link: Any, path: str) -> tuple[int, SavedLink]:
    match link:
        case [int(identity), origin, int(origin_slot), target, int(target_slot), *_]:
            pass
        case {
            "id": int(identity),
            "origin_id": origin,
            "origin_slot": int(origin_slot),
            "target_id": target,
            "target_slot": int(target_slot),
        }:
            pass
        case _:
            raise _malformed(path)
    origin_id, target_id = _identity(origin), _identity(target)
    if origin_id is None or target_id is None:
        raise _malformed(path)
    return identity, SavedLink(origin_id, origin_slot, target_id, target_slot)


def _objects(values: Any, path: str) -> list[dict[str, Any]]:
    if not isinstance(values, list):
        raise _malformed(path)
    for index, each in enumerate(values):
        if not isinstance(each, dict):
            raise _malformed(f"{path}{path_of(index)}")
    return values


def _identity(value: Any) -> str | None:
    """A node's id as text; the format has whole numbers and texts."""
    return str(value) if _is_whole(value) or (isinstance(value, str) and value) else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _below(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _malformed(path: str) -> InvalidWorkflowError:
    return cannot(path, "is not as ComfyUI's user interface saves it")
