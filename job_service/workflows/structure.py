"""Whether a graph can be run at all: references, cycles, outputs, and values where they are known.

ComfyUI looks only at what its output nodes need (recording 05); so do the checks of values here.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any, Final, TypeGuard

from job_service.workflows import exact_json
from job_service.workflows.graph import INPUT_SCHEME, Graph, Link, Node, is_link
from job_service.workflows.problems import (
    Problem,
    ProblemList,
    input_path,
    node_path,
    quoted,
    suggestion,
)
from job_service.workflows.signatures import (
    InputSignature,
    NodeSignature,
    NodeSignatures,
    is_any,
    types_of,
)

_MOST_OUTPUTS: Final = 1_000
_LONGEST_CYCLE: Final = 8
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{0,30})?")


def structure_problems(graph: Graph, signatures: NodeSignatures | None = None) -> list[Problem]:
    """Name everything that keeps ComfyUI from running ``graph``.

    Without ``signatures`` only references and cycles are checked; with them also classes, outputs,
    types, bounds and choices.
    """
    problems = ProblemList(_reference_problems(graph))
    problems.extend(_cycle_problems(graph))
    if signatures:
        problems.extend(_class_problems(graph, signatures))
        needed = _needed_nodes(graph, signatures)
        unseen = any(node.class_type in signatures.unsigned for node in graph.nodes.values())
        if not needed and not unseen and not problems:
            problems.add("", "has no output node, for example SaveImage: nothing would come of it")
        for node_id, node in graph.nodes.items():
            signature = signatures.get(node.class_type)
            if signature is not None and node_id in needed:
                problems.extend(_node_problems(graph, node_id, node, signature, signatures))
    return list(problems)


def _reference_problems(graph: Graph) -> Iterator[Problem]:
    known: tuple[str, ...] | None = None
    for link in graph.links():
        if link.source_id not in graph.nodes:
            known = known or tuple(graph.nodes)
            yield Problem(
                link.path,
                f"links to node {quoted(link.source_id)}, which is not in the graph"
                + suggestion(link.source_id, known),
            )
        elif link.slot >= _MOST_OUTPUTS:
            yield Problem(link.path, f"links to output {link.slot}, which no node has")


def _cycle_problems(graph: Graph) -> Iterator[Problem]:
    """One problem when nodes wait for each other, naming a cycle."""
    sources: dict[str, list[Link]] = defaultdict(list)
    users: dict[str, list[str]] = defaultdict(list)
    for link in graph.links():
        if link.source_id in graph.nodes:
            sources[link.node_id].append(link)
            users[link.source_id].append(link.node_id)
    waits_for = {node_id: len(sources[node_id]) for node_id in graph.nodes}
    ready = deque(node_id for node_id, count in waits_for.items() if not count)
    while ready:
        for user in users[ready.popleft()]:
            waits_for[user] -= 1
            if not waits_for[user]:
                ready.append(user)
    stuck = {node_id for node_id, count in waits_for.items() if count}
    if not stuck:
        return
    # Each stuck node has a stuck source: going from source to source must come back.
    trail: dict[str, Link] = {}
    node_id = next(
        iter(waits_for_node for waits_for_node in graph.nodes if waits_for_node in stuck)
    )
    while node_id not in trail:
        link = next(link for link in sources[node_id] if link.source_id in stuck)
        trail[node_id] = link
        node_id = link.source_id
    first, cycle = node_id, [node_id]
    while (node_id := trail[node_id].source_id) != first:
        cycle.append(node_id)
    shown = " ← ".join(map(quoted, cycle[:_LONGEST_CYCLE]))
    more = " ← …" if len(cycle) > _LONGEST_CYCLE else ""
    yield Problem(trail[first].path, f"is part of a cycle: {shown}{more} ← {quoted(first)}")


def _class_problems(graph: Graph, signatures: NodeSignatures) -> Iterator[Problem]:
    for node_id, node in graph.nodes.items():
        if node.class_type not in signatures and node.class_type not in signatures.unsigned:
            yield Problem(
                node_path(node_id, "class_type"),
                f"no connected ComfyUI has the node class {quoted(node.class_type)}"
                + suggestion(node.class_type, signatures.classes),
            )


def _needed_nodes(graph: Graph, signatures: NodeSignatures) -> set[str]:
    """The nodes that output nodes need, themselves among them."""
    rest = [
        node_id
        for node_id, node in graph.nodes.items()
        if (signature := signatures.get(node.class_type)) and signature.is_output_node
    ]
    needed = set(rest)
    while rest:
        for value in graph.nodes[rest.pop()].inputs.values():
            if is_link(value) and value[0] in graph.nodes and value[0] not in needed:
                needed.add(value[0])
                rest.append(value[0])
    return needed


def _node_problems(
    graph: Graph, node_id: str, node: Node, signature: NodeSignature, signatures: NodeSignatures
) -> Iterator[Problem]:
    for name, expected in signature.inputs.items():
        if name not in node.inputs:
            if expected.required and not expected.is_dynamic:
                yield Problem(
                    input_path(node_id, name),
                    f"is required by {node.class_type} ({_kind(expected)})",
                )
            continue
        value = node.inputs[name]
        problem = (
            _link_problem(graph, value, expected, signatures)
            if is_link(value)
            else value_problem(value, expected, signatures)
        )
        if problem:
            yield Problem(input_path(node_id, name), problem)
    for name, value in node.inputs.items():
        if name not in signature.inputs and is_link(value):
            problem = _slot_problem(graph, value, signatures)
            if problem:
                yield Problem(input_path(node_id, name), problem)


def _slot_problem(graph: Graph, value: list[Any], signatures: NodeSignatures) -> str | None:
    source_id, slot = value
    source = graph.nodes.get(source_id)
    signature = signatures.get(source.class_type) if source else None
    if source is None or signature is None or slot < len(signature.output_types):
        return None
    count = len(signature.output_types)
    has = (
        f"has outputs 0 to {count - 1}"
        if count > 1
        else f"has {'only output 0' if count else 'no output'}"
    )
    return f"links to output {slot} of node {quoted(source_id)}; {source.class_type} {has}"


def _link_problem(
    graph: Graph, value: list[Any], expected: InputSignature, signatures: NodeSignatures
) -> str | None:
    problem = _slot_problem(graph, value, signatures)
    source = graph.nodes.get(value[0])
    signature = signatures.get(source.class_type) if source else None
    if problem or source is None or signature is None:
        return problem
    given = signature.output_types[value[1]]
    if is_any(given) or is_any(expected.type) or types_of(given) & expected.types:
        return None
    return (
        f"takes {_kind(expected)}, but output {value[1]} of node {quoted(value[0])}"
        f" ({source.class_type}) gives {given}"
    )


def value_problem(value: Any, expected: InputSignature, signatures: NodeSignatures) -> str | None:
    """Why ComfyUI would refuse ``value``, which is no link, for an input; None: it takes it.

    Stricter than ComfyUI where that would run something else than was written: it makes 20 of 20.5
    and true of "false".
    """
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    if isinstance(value, str) and value.startswith(INPUT_SCHEME):
        return None
    if expected.choices is not None:
        fits = expected.is_upload or expected.takes_choice(value)
        return None if fits else not_a_choice(value, expected.choices)
    match expected.type:
        case "INT" | "FLOAT":
            return _number_problem(value, expected)
        case "STRING":
            fits, kind = isinstance(value, str) or _is_number(value), "text"
        case "BOOLEAN":
            fits, kind = isinstance(value, bool) or value in (0, 1), "true or false"
        case _:
            return _custom_value_problem(value, expected, signatures)
    return None if fits else f"must be {kind}, is {_shown(value)}"


def _custom_value_problem(
    value: Any, expected: InputSignature, signatures: NodeSignatures
) -> str | None:
    """For types of other names, which ComfyUI takes unseen but for their bounds."""
    if _is_number(value):
        problem = _bounds_problem(value, expected)
        if problem:
            return problem
    if expected.is_widget or (value is None and not expected.required):
        return None
    # A type that no class puts out has a widget of its own, like LOAD_3D.
    if is_any(expected.type) or not expected.types <= signatures.linked_types:
        return None
    return f"must be a link to {_kind(expected)}, is {_shown(value)}"


def _number_problem(value: Any, expected: InputSignature) -> str | None:
    number = _number_of(value)
    if number is None:
        what = "a whole number" if expected.type == "INT" else "a number"
        return f"must be {what}, is {_shown(value)}"
    if expected.type == "INT" and number != int(number):
        return f"must be a whole number, is {_shown(value)}"
    return _bounds_problem(number, expected)


def _number_of(value: Any) -> int | float | None:
    """The number that ComfyUI reads out of a value; it also takes one written as text."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return None
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    return value if _is_number(value) else None


def _bounds_problem(value: Any, expected: InputSignature) -> str | None:
    if expected.minimum is not None and value < expected.minimum:
        return f"must be at least {_figure(expected.minimum)}, is {_shown(value)}"
    if expected.maximum is not None and value > expected.maximum:
        return f"must be at most {_figure(expected.maximum)}, is {_shown(value)}"
    return None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def not_a_choice(value: Any, choices: tuple[str, ...]) -> str:
    """Say that ``value`` is not among ``choices``, and which are near it."""
    if not choices:
        return f"is {_shown(value)}, but the connected ComfyUIs have nothing to choose from"
    nearest = suggestion(value, choices) if isinstance(value, str) else ""
    if not nearest and len(choices) <= 10:
        nearest = f"; it takes {', '.join(map(quoted, choices))}"
    return f"is {_shown(value)}, which no connected ComfyUI offers{nearest}"


def _kind(expected: InputSignature) -> str:
    return "one of a list" if expected.type == "COMBO" else expected.type.replace(",", " or ")[:80]


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return exact_json.dumps(value)[:40]


def _figure(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"
