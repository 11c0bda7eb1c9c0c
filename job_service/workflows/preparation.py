"""From a recipe and a job's values to the graph that is stored and leased, in one step."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from job_service.workflows.graph import MAX_NODES, Graph, dump
from job_service.workflows.inputs import bind_inputs
from job_service.workflows.loras import Lora, with_loras
from job_service.workflows.needs import GraphNeeds, needs_of
from job_service.workflows.problems import InvalidWorkflowError, Problem, ProblemList
from job_service.workflows.reading import read_workflow
from job_service.workflows.safety import SafetyRules, safety_problems
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.structure import structure_problems
from job_service.workflows.template import Template, bind

_FIELDS_OF_THE_JOB: Final = frozenset({"inputs", "lora_models"})


@dataclass(frozen=True, slots=True)
class PreparedGraph:
    """A graph that may be run.

    ``workflow_json`` is its text in API format; ``used_inputs`` the names of the inputs in it,
    sorted; ``values`` those of a template's parameters; ``converted`` tells that the text sent was
    in the format that ComfyUI's user interface saves.
    """

    graph: Graph
    workflow_json: str
    needs: GraphNeeds
    used_inputs: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    converted: bool = False


def prepare_workflow(
    text: str,
    *,
    inputs: Collection[str],
    loras: Sequence[Lora],
    rules: SafetyRules,
    signatures: NodeSignatures | None,
    max_nodes: int = MAX_NODES,
) -> PreparedGraph:
    """Check a graph that a job brings (``workflow_json``) and make it ready.

    The text of a graph in API format that names its inputs as ``input://NAME`` and gets no LoRAs is
    kept byte for byte. Raises InvalidWorkflowError; its paths are those of the job's fields, for
    example ``workflow_json.nodes["3"].inputs.seed``.
    """
    try:
        read = read_workflow(text, signatures=signatures, max_nodes=max_nodes)
    except InvalidWorkflowError as error:
        raise InvalidWorkflowError(
            [each.under("workflow_json") for each in error.problems]
        ) from error
    prepared = _checked(read.graph, inputs, loras, rules, signatures, {})
    kept = not read.converted and prepared.graph == read.graph
    return PreparedGraph(
        prepared.graph,
        text if kept else prepared.workflow_json,
        prepared.needs,
        prepared.used_inputs,
        converted=read.converted,
    )


def prepare_template(
    template: Template,
    *,
    arguments: Mapping[str, Any],
    fields: Mapping[str, Any],
    inputs: Collection[str],
    loras: Sequence[Lora],
    draw_seed: Callable[[], int],
    rules: SafetyRules,
    signatures: NodeSignatures | None,
) -> PreparedGraph:
    """Put a job's values into a template and make the graph ready; see ``template.bind``.

    Raises InvalidWorkflowError; what a parameter's value has done wrong is put down to the field of
    the job that it came from.
    """
    bound = bind(
        template,
        arguments=arguments,
        fields=fields,
        inputs=inputs,
        draw_seed=draw_seed,
        signatures=signatures,
    )
    prepared = _checked(bound.graph, inputs, loras, rules, signatures, bound.origins)
    return PreparedGraph(
        prepared.graph,
        prepared.workflow_json,
        prepared.needs,
        prepared.used_inputs,
        values=bound.values,
    )


def _checked(
    graph: Graph,
    inputs: Collection[str],
    loras: Sequence[Lora],
    rules: SafetyRules,
    signatures: NodeSignatures | None,
    origins: Mapping[str, str],
) -> PreparedGraph:
    problems = ProblemList()
    used: tuple[str, ...] = ()
    try:
        bound = bind_inputs(graph, inputs, signatures)
        graph, used = bound.graph, bound.used
    except InvalidWorkflowError as error:
        problems.extend(error.problems)
    try:
        graph = with_loras(graph, loras)
    except InvalidWorkflowError as error:
        problems.extend(error.problems)
    problems.extend(structure_problems(graph, signatures))
    known = {each.path for each in problems}
    problems.extend(
        each for each in safety_problems(graph, rules, signatures) if each.path not in known
    )
    ProblemList(_as_of_job(each, origins) for each in problems).raise_if_any()
    return PreparedGraph(graph, dump(graph), needs_of(graph), used)


def _as_of_job(problem: Problem, origins: Mapping[str, str]) -> Problem:
    if problem.path in _FIELDS_OF_THE_JOB:
        return problem
    origin = origins.get(problem.path)
    return Problem(origin, problem.description) if origin else problem.under("workflow_json")
