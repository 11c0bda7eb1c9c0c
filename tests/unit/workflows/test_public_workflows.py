"""Workflows that are published for ComfyUI pass, or are refused for a precise reason.

They are those of the package ``comfyui-workflow-templates-json``, and are judged with the classes
of a ComfyUI that has all the models they name.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from job_service.workflows.graph import Graph
from job_service.workflows.problems import InvalidWorkflowError
from job_service.workflows.reading import read_workflow
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.structure import structure_problems
from tests.unit.workflows.object_info import SIGNATURES

TEMPLATES = files("comfyui_workflow_templates_json") / "templates"
NO_MODELS = "which no connected ComfyUI offers", "have nothing to choose from"


@cache
def workflows() -> dict[str, str]:
    """Every third of the package's workflows: some 200; it has translated indexes beside them."""
    names = sorted(each.name for each in TEMPLATES.iterdir() if not each.name.startswith("index"))
    texts = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in names[::3]}
    return {name: text for name, text in texts.items() if '"nodes"' in text}


@cache
def outcomes() -> dict[str, Graph | InvalidWorkflowError]:
    found: dict[str, Graph | InvalidWorkflowError] = {}
    for name, text in workflows().items():
        try:
            found[name] = read_workflow(text, signatures=SIGNATURES).graph
        except InvalidWorkflowError as error:
            found[name] = error
    return found


def converted() -> dict[str, Graph]:
    return {name: each for name, each in outcomes().items() if isinstance(each, Graph)}


def test_most_that_use_only_known_classes_are_converted() -> None:
    assert len(workflows()) > 200
    assert len(converted()) > 25


def test_the_others_are_refused_with_node_and_reason() -> None:
    refused = [each for each in outcomes().values() if isinstance(each, InvalidWorkflowError)]
    assert refused
    for error in refused:
        for problem in error.problems:
            assert problem.path.startswith(("nodes[", "definitions.subgraphs["))
            assert "Export (API)" in problem.description


def test_those_converted_pass_the_checks_but_for_models_that_are_not_there() -> None:
    passed = 0
    for name, graph in converted().items():
        assert structure_problems(graph, None) == [], name
        left = [
            each
            for each in structure_problems(graph, SIGNATURES)
            if not any(words in each.description for words in NO_MODELS)
        ]
        passed += not left
        assert all(each.path.startswith("nodes[") for each in left), name
    assert passed >= 20


def test_nothing_is_changed() -> None:
    """Every value and every direct link of a node that runs is in the graph, and no other node."""
    for name, graph in converted().items():
        _same_workflow(graph, json.loads(workflows()[name]))


def _same_workflow(graph: Graph, document: dict[str, Any]) -> None:
    definitions = (document.get("definitions") or {}).get("subgraphs", [])
    subgraphs = {each["id"] for each in definitions}
    nodes = {str(each["id"]): each for each in document["nodes"]}
    links = {link[0]: link for link in document["links"]}
    top = {key for key in graph.nodes if ":" not in key}
    assert top == {
        key
        for key, each in nodes.items()
        if each.get("mode", 0) not in (2, 4)
        and each["type"] not in {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"} | subgraphs
    }
    for key in top:
        assert graph.nodes[key].class_type == nodes[key]["type"]
        _same_values(graph.nodes[key].inputs, nodes[key], SIGNATURES)
        for each in nodes[key].get("inputs") or []:
            if each.get("link") is None:
                continue
            _, origin, slot, *_ = links[each["link"]]
            if str(origin) in top:
                assert graph.nodes[key].inputs[each["name"]] == [str(origin), slot]


def _same_values(inputs: dict[str, Any], saved: dict[str, Any], known: NodeSignatures) -> None:
    """The values in the graph are those saved, in their order, without the interface's own."""
    values = saved.get("widgets_values") or []
    if isinstance(values, dict):
        values = list(values.values())
    linked = {each["name"] for each in saved.get("inputs") or [] if each.get("link") is not None}
    rest = iter(values)
    for name in known[saved["type"]].inputs:
        if name in inputs and name not in linked:
            assert any(_equal(inputs[name], value) for value in rest), (saved["type"], name)


def _equal(ours: Any, saved: Any) -> bool:
    return bool(ours == ({"__value__": saved} if isinstance(saved, list) else saved))
