"""A graph in ComfyUI's API format: node id → class and inputs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from job_service.workflows import exact_json
from job_service.workflows.problems import (
    InvalidWorkflowError,
    Problem,
    ProblemList,
    input_path,
    node_path,
    quoted,
)

MAX_WORKFLOW_BYTES: Final = 1024 * 1024
MAX_NODES: Final = 1_000
INPUT_SCHEME: Final = "input://"
_LONGEST_ID: Final = 255
_LONGEST_CLASS: Final = 255


@dataclass(frozen=True, slots=True)
class Link:
    """An input that takes another node's output."""

    node_id: str
    input_name: str
    source_id: str
    slot: int

    @property
    def path(self) -> str:
        """Where the link is."""
        return input_path(self.node_id, self.input_name)


@dataclass(frozen=True, slots=True)
class Node:
    """One node; ``fields`` is all that stands under its id, in the order it came in."""

    fields: dict[str, Any]

    @property
    def class_type(self) -> str:
        """Its class."""
        class_type: str = self.fields["class_type"]
        return class_type

    @property
    def inputs(self) -> dict[str, Any]:
        """Its inputs: values, and lists ``[node id, slot]`` for links."""
        inputs: dict[str, Any] = self.fields["inputs"]
        return inputs


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes by id, in the order they came in."""

    nodes: dict[str, Node]

    def links(self) -> Iterator[Link]:
        """Every input that is a well-formed link, whether its source exists or not."""
        for node_id, node in self.nodes.items():
            for name, value in node.inputs.items():
                if is_link(value):
                    yield Link(node_id, name, value[0], value[1])

    def input_names(self) -> set[str]:
        """The names of all inputs of a job that stand somewhere as ``input://NAME``."""
        return {
            text.removeprefix(INPUT_SCHEME)
            for node in self.nodes.values()
            for value in node.inputs.values()
            for text in references(value)
        }

    def copy(self) -> "Graph":
        """A graph whose inputs can be set without changing this one."""
        return Graph(
            {
                node_id: Node({**node.fields, "inputs": dict(node.inputs)})
                for node_id, node in self.nodes.items()
            }
        )

    def unused_id(self, wanted: str) -> str:
        """``wanted``, or with a number behind it when a node has that id."""
        number, node_id = 1, wanted
        while node_id in self.nodes:
            number += 1
            node_id = f"{wanted}_{number}"
        return node_id


def is_link(value: Any) -> bool:
    """Whether an input's value is a well-formed link, ``["node id", slot]``."""
    match value:
        case [str(), bool()]:
            return False
        case [str(), int(slot)]:
            return slot >= 0
        case _:
            return False


def references(value: Any) -> Iterator[str]:
    """Find the texts ``input://…`` anywhere in a value."""
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, str):
            if each.startswith(INPUT_SCHEME):
                yield each
        elif isinstance(each, dict):
            rest += each.values()
        elif isinstance(each, list):
            rest += each


def new_node(class_type: str, inputs: Mapping[str, Any]) -> Node:
    """A node of our own."""
    return Node({"class_type": class_type, "inputs": dict(inputs)})


def parse(text: str, *, max_nodes: int = MAX_NODES) -> Graph:
    """Read a graph in API format.

    Raises InvalidWorkflowError with everything that is wrong with its form.
    """
    return graph_of(document_of(text), max_nodes=max_nodes)


def document_of(text: str) -> Any:
    """Read the JSON of a workflow in whatever format. Raises InvalidWorkflowError."""
    # A character takes one byte at least, so the first test spares encoding what is far too long.
    size = len(text) if len(text) > MAX_WORKFLOW_BYTES else len(text.encode(errors="replace"))
    if size > MAX_WORKFLOW_BYTES:
        raise InvalidWorkflowError(
            [Problem("", f"must have at most {MAX_WORKFLOW_BYTES:,} bytes, has {size:,}")]
        )
    try:
        return exact_json.loads(text)
    except exact_json.InvalidJsonError as error:
        raise InvalidWorkflowError([Problem("", str(error))]) from error


def graph_of(document: Any, *, max_nodes: int = MAX_NODES) -> Graph:
    """Make a graph of JSON that ``document_of`` read. Raises InvalidWorkflowError."""
    problems = ProblemList()
    if not isinstance(document, dict):
        problems.add("", "must be a JSON object: node id → class_type and inputs")
    elif not document:
        problems.add("", "has no nodes")
    elif len(document) > max_nodes:
        problems.add("", f"must have at most {max_nodes:,} nodes, has {len(document):,}")
    elif isinstance(document.get("prompt"), dict) and "class_type" not in document["prompt"]:
        problems.add("", 'is a request to ComfyUI; send only what stands under "prompt" in it')
    problems.raise_if_any()
    problems.extend(_flaws(document))
    for node_id, node in document.items():
        problems.extend(_form_problems(node_id, node))
    problems.raise_if_any()
    return Graph({node_id: Node(node) for node_id, node in document.items()})


def dump(graph: Graph) -> str:
    """Write a graph as JSON text; numbers and order are as they were read."""
    return exact_json.dumps({node_id: node.fields for node_id, node in graph.nodes.items()})


def _flaws(document: dict[str, Any]) -> Iterable[Problem]:
    for flaw in exact_json.flaws(document):
        # ComfyUI itself writes NaN beside the inputs ("is_changed"); inside it means nothing.
        if flaw.not_finite and flaw.keys[1:2] != ("inputs",):
            continue
        node_id, *inside = flaw.keys
        yield Problem(node_path(str(node_id), *inside), flaw.description)


def _form_problems(node_id: str, node: Any) -> Iterable[Problem]:
    if not 1 <= len(node_id) <= _LONGEST_ID:
        yield Problem(node_path(node_id), f"a node id must have 1 to {_LONGEST_ID} characters")
    if not isinstance(node, dict):
        yield Problem(node_path(node_id), "must be an object with class_type and inputs")
        return
    class_type = node.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        yield Problem(node_path(node_id, "class_type"), "is required: the name of a node class")
    elif len(class_type) > _LONGEST_CLASS:
        yield Problem(
            node_path(node_id, "class_type"), f"must have at most {_LONGEST_CLASS} characters"
        )
    inputs = node.get("inputs")
    if not isinstance(inputs, dict):
        yield Problem(node_path(node_id, "inputs"), "is required: an object, {} for none")
        return
    for name, value in inputs.items():
        if isinstance(value, list) and not is_link(value):
            yield Problem(input_path(node_id, name), _link_form(value))


def _link_form(value: list[Any]) -> str:
    match value:
        case [int(source), int()] if not isinstance(source, bool):
            return f'a link names its node by text: ["{str(source)[:20]}", …]'
        case [str(source), int() | float()]:
            return f"the slot of a link to node {quoted(source)} must be a whole number from 0"
        case _:
            return (
                'a list must be a link, ["node id", slot];'
                ' a list as a value is written {"__value__": […]}'
            )
