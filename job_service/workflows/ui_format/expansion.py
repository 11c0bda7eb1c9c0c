"""Takes subgraphs apart and follows links to the nodes that really run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from job_service.workflows.problems import quoted
from job_service.workflows.ui_format.document import (
    SUBGRAPH_INPUT,
    SUBGRAPH_OUTPUT,
    Mode,
    SavedGraph,
    SavedNode,
    SavedWorkflow,
    cannot,
)

REROUTE: Final = "Reroute"
PRIMITIVE: Final = "PrimitiveNode"
NOTES: Final = frozenset({"Note", "MarkdownNote"})
_DEEPEST: Final = 16
_NODES_PER_NODE: Final = 20
"""Nodes in a document, over all places where its subgraphs are used, for each that may run."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A graph at one of the places where it is used; ``prefix`` goes before its nodes' ids."""

    graph: SavedGraph
    prefix: str = ""
    parent: "Scope | None" = None
    host: SavedNode | None = None
    children: dict[str, "Scope"] = field(default_factory=dict)
    """Subgraphs by the id of the node that holds them."""
    resolved: dict[int, "Source"] = field(default_factory=dict)
    """Links that were followed already."""


@dataclass(frozen=True, slots=True)
class Output:
    """A link's source: an output of a node that runs."""

    node_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class Value:
    """A link's source: a fixed value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Nothing:
    """A link that leads nowhere, because what it comes from is muted or not connected."""


@dataclass(frozen=True, slots=True)
class OwnValue:
    """A link from a subgraph's input that nobody sets: the widget behind it keeps its value."""


Source = Output | Value | Nothing | OwnValue


def expand(workflow: SavedWorkflow, max_nodes: int) -> list[Scope]:
    """Every place where nodes run: the workflow, then its subgraphs, outer ones first.

    Raises InvalidWorkflowError for subgraphs that hold themselves, are nested deeper than 16, or
    come to too many nodes.
    """
    top = Scope(workflow.graph)
    scopes = [top]
    count = len(workflow.graph.nodes)
    for scope in scopes:  # grows while it is walked
        for node in scope.graph.nodes.values():
            subgraph = workflow.subgraphs.get(node.type)
            if subgraph is None or node.mode is not Mode.ALWAYS:
                continue
            prefix = f"{scope.prefix}{node.id}:"
            if prefix.count(":") > _DEEPEST:
                raise cannot(node.path, f"has subgraphs nested deeper than {_DEEPEST} levels")
            count += len(subgraph.nodes)
            if count > max_nodes * _NODES_PER_NODE:
                raise cannot("", "has too many nodes in its subgraphs")
            scope.children[node.id] = Scope(subgraph, prefix, scope, node)
            scopes.append(scope.children[node.id])
    return scopes


def running_nodes(scope: Scope) -> Iterator[SavedNode]:
    """The nodes of a scope that ComfyUI gets to see."""
    for node in scope.graph.nodes.values():
        virtual = node.type in NOTES or node.type in (REROUTE, PRIMITIVE)
        if node.mode is Mode.ALWAYS and not virtual and node.id not in scope.children:
            yield node


def source_of(scope: Scope, link_id: int, path: str) -> Source:
    """Follow a link through reroutes, subgraphs and bypassed nodes to where it comes from.

    ``path`` is where the link is. Raises InvalidWorkflowError when that is not clear.
    """
    passed: list[tuple[Scope, int]] = []
    seen: set[tuple[int, int]] = set()
    step: Source | tuple[Scope, int] = (scope, link_id)
    while isinstance(step, tuple):
        at, link = step
        if (id(at), link) in seen:
            raise cannot(path, "its link goes round in a circle")
        seen.add((id(at), link))
        passed.append(step)
        step = at.resolved.get(link) or _follow(at, link, path)
    for at, link in passed:
        at.resolved[link] = step
    return step


def _follow(scope: Scope, link_id: int, path: str) -> Source | tuple[Scope, int]:
    """One step along a link: its source, or the link before it."""
    link = scope.graph.links.get(link_id)
    if link is None:
        raise cannot(path, f"its link {link_id} is not in the workflow")
    if link.origin_id == SUBGRAPH_INPUT and scope.parent is not None:
        return _into_host(scope, link.origin_slot, path)
    node = scope.graph.nodes.get(link.origin_id)
    if node is None:
        raise cannot(path, f"its link comes from node {quoted(link.origin_id)}, which is not there")
    if node.mode is Mode.BYPASSED:
        return _around(scope, node, link.origin_slot)
    if node.mode is Mode.ALWAYS and node.id in scope.children:
        return _out_of(scope.children[node.id], link.origin_slot, path)
    return _out_of_node(scope, node, link.origin_slot)


def _out_of_node(scope: Scope, node: SavedNode, slot: int) -> Source | tuple[Scope, int]:
    """From an output of a node that is neither bypassed nor holds a subgraph."""
    if node.mode is Mode.MUTED or node.type in NOTES:
        return Nothing()
    if node.type == REROUTE:
        before = node.inputs[0].link if node.inputs else None
        return Nothing() if before is None else (scope, before)
    if node.type == PRIMITIVE:
        values = node.widget_values
        if not isinstance(values, list) or not values:
            raise cannot(node.path, "has no value")
        return Value(values[0])
    return Output(scope.prefix + node.id, slot)


def _into_host(scope: Scope, slot: int, path: str) -> Source | tuple[Scope, int]:
    """From a subgraph's input to what the node that holds the subgraph gets there."""
    assert scope.parent is not None
    assert scope.host is not None
    if not 0 <= slot < len(scope.graph.inputs):
        raise cannot(path, "its link comes from an input that the subgraph has not")
    name = scope.graph.inputs[slot].name
    for each in scope.host.inputs:
        if each.name == name and each.link is not None:
            return scope.parent, each.link
    values = scope.host.widget_values
    if not values:
        return OwnValue()
    names = widget_inputs(scope.graph)
    if not isinstance(values, list) or len(values) != len(names):
        raise cannot(
            scope.host.path, f"has {len(values)} values for the {len(names)} of its subgraph"
        )
    return Value(values[names.index(name)]) if name in names else OwnValue()


def widget_inputs(graph: SavedGraph) -> list[str]:
    """Names of a subgraph's inputs that set a widget inside; the values saved have their order."""
    slots = {
        link.origin_slot
        for link in graph.links.values()
        if link.origin_id == SUBGRAPH_INPUT
        and (target := graph.nodes.get(link.target_id)) is not None
        and 0 <= link.target_slot < len(target.inputs)
        and target.inputs[link.target_slot].is_widget
    }
    return [each.name for index, each in enumerate(graph.inputs) if index in slots]


def _out_of(scope: Scope, slot: int, path: str) -> Source | tuple[Scope, int]:
    """From an output of a subgraph's node to the link that ends there inside."""
    if not 0 <= slot < len(scope.graph.outputs):
        raise cannot(path, "its link comes from an output that the subgraph has not")
    inside = scope.graph.links_by_end.get((SUBGRAPH_OUTPUT, slot))
    return Nothing() if inside is None else (scope, inside)


def _around(scope: Scope, node: SavedNode, slot: int) -> Source | tuple[Scope, int]:
    """Past a bypassed node: to its input of the output's type, the one at the same place first."""
    if not 0 <= slot < len(node.outputs):
        raise cannot(node.path, "is bypassed, and lacks an output that is linked")
    kind = node.outputs[slot].type
    candidates = (*node.inputs[slot : slot + 1], *node.inputs)
    found = next((each for each in candidates if each.type == kind), None)
    if found is not None and found.link is not None and kind != "*":
        return scope, found.link
    # Versions of the user interface differ in what they do then.
    unclear = kind == "*" or (
        any(_overlap(kind, each.type) for each in candidates) if found is None else found.is_widget
    )
    if unclear:
        raise cannot(node.path, f"is bypassed, and it is not clear what its {kind} then is")
    return Nothing()


def _overlap(one: str, other: str) -> bool:
    return "*" in (one, other) or not set(one.split(",")).isdisjoint(other.split(","))
