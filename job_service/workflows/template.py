"""A template: a graph, and the parameters whose values are put into it."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from job_service.workflows.graph import INPUT_SCHEME, Graph
from job_service.workflows.job_fields import ALWAYS_GIVEN, FIELD_PATHS
from job_service.workflows.parameters import Parameter, ParameterType
from job_service.workflows.problems import (
    Problem,
    ProblemList,
    input_path,
    quoted,
    suggestion,
)
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.structure import not_a_choice

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,63}")
_ARGUMENTS: Final = "template.arguments_json"


@dataclass(frozen=True, slots=True)
class Template:
    """A named graph with parameters. Version 0: not stored yet."""

    name: str
    graph: Graph
    parameters: tuple[Parameter, ...] = ()
    description: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class BoundGraph:
    """A template's graph with the values in it.

    ``values`` are those of all parameters that have one, by name. ``origins`` says for the path of
    each input that was set which field of the job its value came from.
    """

    graph: Graph
    values: dict[str, Any]
    origins: dict[str, str]


def bind(
    template: Template,
    *,
    arguments: Mapping[str, Any],
    fields: Mapping[str, Any],
    inputs: Collection[str],
    draw_seed: Callable[[], int],
    signatures: NodeSignatures | None = None,
) -> BoundGraph:
    """Put a job's values into a template's graph.

    ``fields`` holds the job's fields of ``FIELD_PATHS`` that it gives explicitly; ``inputs`` are
    the names of the inputs that it binds. A value that is not given is the parameter's default or,
    without one, what stands in the graph.

    Raises InvalidWorkflowError; its paths are those of the job's fields, for example
    ``sampler.steps`` or ``template.arguments_json.strength``.
    """
    problems = ProblemList(_unknown_values(template, arguments, fields))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    graph = template.graph.copy()
    for parameter in template.parameters:
        origin = _origin(parameter)
        try:
            value = _value(template.graph, parameter, arguments, fields, inputs, draw_seed)
        except _MissingError as error:
            problems.add(origin, str(error))
            continue
        if value is None:
            continue
        problem = parameter.value_problem(value) or _choice_problem(
            template.graph, parameter, value, signatures
        )
        if problem:
            problems.add(origin, problem)
            continue
        values[parameter.name] = value
        written = INPUT_SCHEME + value if parameter.type is ParameterType.INPUT else value
        for target in parameter.targets:
            graph.nodes[target.node_id].inputs[target.input_name] = written
            origins[input_path(target.node_id, target.input_name)] = origin
    problems.raise_if_any()
    return BoundGraph(graph, values, origins)


class _MissingError(Exception):
    """A parameter that must have a value has none."""


def _origin(parameter: Parameter) -> str:
    if parameter.name in FIELD_PATHS:
        return FIELD_PATHS[parameter.name]
    if parameter.type is ParameterType.INPUT:
        return "inputs"
    return f"{_ARGUMENTS}.{parameter.name}"


def _value(
    graph: Graph,
    parameter: Parameter,
    arguments: Mapping[str, Any],
    fields: Mapping[str, Any],
    inputs: Collection[str],
    draw_seed: Callable[[], int],
) -> Any:
    """The value of a parameter, or None when what stands in the graph differs and stays."""
    name = parameter.name
    if parameter.type is ParameterType.INPUT:
        if name in inputs:
            return name
        raise _MissingError(f"the template needs the input {quoted(name)}: upload and bind it")
    given = fields if name in FIELD_PATHS else arguments
    value = given.get(name)
    if parameter.type is ParameterType.SEED and value == -1:
        value = None
    if value is None:
        value = parameter.default
    if value is None and parameter.type is ParameterType.SEED:
        value = draw_seed()
    if value is None and parameter.required:
        raise _MissingError("is required by the template")
    return _own_value(graph, parameter) if value is None else value


def _own_value(graph: Graph, parameter: Parameter) -> Any:
    """What stands in the graph for a parameter, if all its targets agree."""
    first, *others = (
        graph.nodes[target.node_id].inputs[target.input_name] for target in parameter.targets
    )
    return first if all(each == first for each in others) else None


def _unknown_values(
    template: Template, arguments: Mapping[str, Any], fields: Mapping[str, Any]
) -> Iterator[Problem]:
    known = {each.name: each for each in template.parameters}
    for name in arguments:
        path = f"{_ARGUMENTS}.{name}" if _PLAIN_NAME.fullmatch(name) else _ARGUMENTS
        if name in FIELD_PATHS:
            yield Problem(path, f"is a field of the job: set {FIELD_PATHS[name]} instead")
        elif name not in known:
            yield Problem(
                path,
                f"the template {quoted(template.name)} has no parameter {quoted(name)}"
                + suggestion(name, sorted(known)),
            )
        elif known[name].type is ParameterType.INPUT:
            yield Problem(path, "is an input: upload it and bind it in the job's inputs")
    for name in fields:
        if name not in known and name not in ALWAYS_GIVEN:
            yield Problem(
                FIELD_PATHS[name],
                f"the template {quoted(template.name)} has no parameter for this field",
            )


def _choice_problem(
    graph: Graph, parameter: Parameter, value: Any, signatures: NodeSignatures | None
) -> str | None:
    if parameter.type is not ParameterType.CHOICE or not signatures:
        return None
    for target in parameter.targets:
        node = graph.nodes[target.node_id]
        signature = signatures.input(node.class_type, target.input_name)
        if signature and signature.choices is not None and not signature.takes_choice(value):
            return not_a_choice(value, signature.choices)
    return None
