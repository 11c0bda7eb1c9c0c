"""Whether a template may be stored."""

import re
from collections.abc import Iterator
from math import isfinite
from typing import Final

from job_service.workflows import exact_json
from job_service.workflows.graph import INPUT_SCHEME, Graph
from job_service.workflows.inputs import INPUT_NAME, bind_inputs
from job_service.workflows.job_fields import FIELD_PATHS, FIELD_TYPES
from job_service.workflows.parameters import Parameter, ParameterType
from job_service.workflows.problems import (
    InvalidWorkflowError,
    Problem,
    ProblemList,
    input_path,
    path_of,
    quoted,
    suggestion,
)
from job_service.workflows.safety import SafetyRules, safety_problems
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.structure import structure_problems
from job_service.workflows.template import Template

MAX_PARAMETERS: Final = 64
MAX_TARGETS: Final = 64
MAX_CHOICES: Final = 256
MAX_DESCRIPTION: Final = 500
TEMPLATE_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}")
TEMPLATE_NAME_RULE: Final = 'must have 1 to 63 lower-case letters, digits, "-" and "_"'
_PARAMETER_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,63}")


def template_problems(
    template: Template, rules: SafetyRules, signatures: NodeSignatures | None = None
) -> list[Problem]:
    """Name everything that keeps ``template`` from being stored.

    Paths are those of WorkflowTemplate: ``parameters[2].targets[0]``,
    ``workflow_json.nodes["3"].inputs.seed``.
    """
    problems = ProblemList()
    if not TEMPLATE_NAME.fullmatch(template.name):
        problems.add("name", TEMPLATE_NAME_RULE)
    problems.extend(description_problems(template.description))
    if len(template.parameters) > MAX_PARAMETERS:
        problems.add("parameters", f"must have at most {MAX_PARAMETERS} entries")
        return list(problems)
    before = len(problems)
    problems.extend(_names_twice(template.parameters))
    taken: dict[tuple[str, str], str] = {}
    for index, parameter in enumerate(template.parameters):
        at = path_of("parameters", index)
        problems.extend(each.under(at) for each in _parameter_problems(parameter))
        problems.extend(each.under(at) for each in _target_problems(template, parameter, taken))
    if len(problems) == before:
        problems.extend(
            each.under("workflow_json") for each in _graph_problems(template, rules, signatures)
        )
    return list(problems)


def _names_twice(parameters: tuple[Parameter, ...]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, parameter in enumerate(parameters):
        first = seen.setdefault(parameter.name, index)
        if first != index:
            yield Problem(
                path_of("parameters", index, "name"), f"parameters[{first}] has the same name"
            )


def _parameter_problems(parameter: Parameter) -> Iterator[Problem]:
    yield from _naming_problems(parameter)
    low, high = parameter.minimum, parameter.maximum
    if not all(bound is None or isfinite(bound) for bound in (low, high)):
        yield Problem("minimum", "minimum and maximum must be finite numbers")
        return
    if low is not None and high is not None and low > high:
        yield Problem("minimum", f"must be at most the maximum, {high:g}, is {low:g}")
        return
    if len(parameter.choices_json) > MAX_CHOICES:
        yield Problem("choices_json", f"must have at most {MAX_CHOICES} entries")
        return
    unreadable = False
    for index, text in enumerate(parameter.choices_json):
        problem = _json_problem(text) or Parameter(
            parameter.name, parameter.type, minimum=low, maximum=high
        ).value_problem(exact_json.loads(text))
        if problem:
            unreadable = True
            yield Problem(path_of("choices_json", index), problem)
    if parameter.default_json and not unreadable:
        problem = _json_problem(parameter.default_json) or parameter.value_problem(
            parameter.default
        )
        if problem:
            yield Problem("default_json", problem)


def description_problems(text: str) -> Iterator[Problem]:
    """What is wrong with the description of a template or of a parameter."""
    if len(text) > MAX_DESCRIPTION:
        yield Problem(
            "description", f"must have at most {MAX_DESCRIPTION} characters, has {len(text):,}"
        )
    if "\0" in text:
        yield Problem("description", "must not contain the character NUL (U+0000)")


def _naming_problems(parameter: Parameter) -> Iterator[Problem]:
    if not _PARAMETER_NAME.fullmatch(parameter.name):
        yield Problem("name", 'must have 1 to 63 letters, digits and "_"')
    yield from description_problems(parameter.description)
    expected = FIELD_TYPES.get(parameter.name)
    if expected and parameter.type not in expected:
        words = " or ".join(sorted(each.name for each in expected))
        yield Problem(
            "type", f"must be {words}: it takes the job's field {FIELD_PATHS[parameter.name]}"
        )
    if parameter.type is ParameterType.INPUT:
        if not INPUT_NAME.fullmatch(parameter.name):
            yield Problem("name", "must begin with a letter or digit, as names of inputs do")
        if parameter.default_json or parameter.choices_json:
            yield Problem("default_json", "an INPUT has no default and no choices")
        if not parameter.required:
            yield Problem("required", "an INPUT must be required: the graph needs its file")


def _json_problem(text: str) -> str | None:
    try:
        value = exact_json.loads(text)
    except exact_json.InvalidJsonError as error:
        return str(error)
    if value is None:
        return "must not be null"
    flaw = next(exact_json.flaws(value), None)
    return flaw.description if flaw else None


def _target_problems(
    template: Template, parameter: Parameter, taken: dict[tuple[str, str], str]
) -> Iterator[Problem]:
    if not 1 <= len(parameter.targets) <= MAX_TARGETS:
        yield Problem("targets", f"must have 1 to {MAX_TARGETS} entries")
        return
    nodes = template.graph.nodes
    for index, target in enumerate(parameter.targets):
        at = path_of("targets", index)
        node = nodes.get(target.node_id)
        if node is None:
            yield Problem(
                f"{at}.node_id",
                f"the graph has no node {quoted(target.node_id)}"
                + suggestion(target.node_id, tuple(nodes)),
            )
        elif target.input_name not in node.inputs:
            yield Problem(
                f"{at}.input_name",
                f"node {quoted(target.node_id)} ({node.class_type}) has no input"
                f" {quoted(target.input_name)} in the graph"
                + suggestion(target.input_name, tuple(node.inputs)),
            )
        elif isinstance(node.inputs[target.input_name], list | dict):
            yield Problem(f"{at}.input_name", "is a link in the graph, not a value")
        else:
            other = taken.setdefault((target.node_id, target.input_name), parameter.name)
            if other != parameter.name:
                yield Problem(at, f"the parameter {quoted(other)} sets this input already")


def _graph_problems(
    template: Template, rules: SafetyRules, signatures: NodeSignatures | None
) -> Iterator[Problem]:
    """What is wrong with the graph whatever its parameters are set to."""
    graph, open_paths = _with_defaults(template)
    names = graph.input_names()
    for name in sorted(names):
        if not INPUT_NAME.fullmatch(name):
            yield Problem("", f"{quoted(name)} cannot be the name of an input")
    problems = structure_problems(graph, signatures) + safety_problems(graph, rules, signatures)
    try:
        bind_inputs(graph, names, signatures)
    except InvalidWorkflowError as error:
        problems += error.problems
    yield from (each for each in problems if each.path not in open_paths)


def _with_defaults(template: Template) -> tuple[Graph, set[str]]:
    """The graph with every default, and the paths of inputs whose values only a job decides.

    The default of a CHOICE is among those: its model may be installed later.
    """
    graph = template.graph.copy()
    open_paths: set[str] = set()
    for parameter in template.parameters:
        default = parameter.default
        if parameter.type is ParameterType.INPUT:
            default = INPUT_SCHEME + parameter.name
        for target in parameter.targets:
            if default is not None:
                graph.nodes[target.node_id].inputs[target.input_name] = default
            if default is None or parameter.type is ParameterType.CHOICE:
                open_paths.add(input_path(target.node_id, target.input_name))
    return graph, open_paths
