"""What keeps ComfyUI from running a graph is found before, and named with node and input."""

import json
import time
from typing import Any

import pytest

from job_service.workflows.graph import Graph, graph_of
from job_service.workflows.problems import MAX_PROBLEMS
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.structure import structure_problems
from tests.unit.workflows.object_info import INFO, SIGNATURES, object_info, signatures_of
from tests.unit.workflows.object_info import text_to_image as whole


def graph(nodes: dict[str, Any]) -> Graph:
    return graph_of(json.loads(json.dumps(nodes)))


def problems(nodes: dict[str, Any], signatures: NodeSignatures | None = SIGNATURES) -> Any:
    return {each.path: each.description for each in structure_problems(graph(nodes), signatures)}


def changed(node_id: str, **inputs: Any) -> dict[str, Any]:
    nodes = whole()
    nodes[node_id]["inputs"] |= inputs
    return nodes


def test_a_good_graph_has_no_problems() -> None:
    assert problems(whole()) == {}
    assert problems(whole(), None) == {}
    assert problems(whole(), NodeSignatures()) == {}
    assert problems(whole(), signatures_of(object_info("0.3.75"))) == {}


@pytest.mark.parametrize(
    ("node_id", "inputs", "part"),
    [
        ("5", {"model": ["99", 0]}, 'links to node "99", which is not in the graph'),
        ("5", {"model": ["1", 3]}, "CheckpointLoaderSimple has outputs 0 to 2"),
        ("6", {"samples": ["5", 1]}, "KSampler has only output 0"),
        ("6", {"samples": ["7", 0]}, "SaveImage has no output"),
        ("6", {"samples": ["1", 0]}, 'takes LATENT, but output 0 of node "1"'),
        ("6", {"samples": "latent"}, 'must be a link to LATENT, is "latent"'),
        ("5", {"steps": 0}, "must be at least 1, is 0"),
        ("5", {"steps": 10_001}, "must be at most 10,000, is 10001"),
        ("5", {"steps": "many"}, 'must be a whole number, is "many"'),
        ("5", {"steps": 20.5}, "must be a whole number, is 20.5"),
        ("5", {"steps": None}, "must be a whole number, is null"),
        ("5", {"steps": True}, "must be a whole number, is true"),
        ("5", {"seed": -1}, "must be at least 0, is -1"),
        ("5", {"seed": 2**64}, f"must be at most {2**64 - 1:,}, is {2**64}"),
        ("5", {"denoise": 1.01}, "must be at most 1, is 1.01"),
        ("5", {"cfg": {"a": 1}}, "must be a number, is an object"),
        ("5", {"sampler_name": "eular"}, 'offers; did you mean "euler"'),
        ("5", {"scheduler": 3}, "is 3, which no connected ComfyUI offers; it takes "),
        ("1", {"ckpt_name": "sd16.safetensors"}, 'did you mean "sd15.safetensors"'),
        ("2", {"text": None}, "must be text, is null"),
        ("2", {"text": {"__value__": [1]}}, "must be text, is a list"),
    ],
)
def test_wrong_inputs_are_named(node_id: str, inputs: dict[str, Any], part: str) -> None:
    (name,) = inputs
    found = problems(changed(node_id, **inputs))
    assert list(found) == [f'nodes["{node_id}"].inputs.{name}']
    assert part in found[f'nodes["{node_id}"].inputs.{name}']


@pytest.mark.parametrize(
    ("node_id", "inputs"),
    [
        ("5", {"seed": 2**64 - 1}),
        ("5", {"steps": 20.0}),
        ("5", {"steps": "20"}),
        ("5", {"cfg": 8}),
        ("5", {"cfg": {"__value__": 8}}),
        ("2", {"text": 3}),
        ("7", {"unheard_of": 3}),
    ],
)
def test_what_comfyui_takes_passes(node_id: str, inputs: dict[str, Any]) -> None:
    assert problems(changed(node_id, **inputs)) == {}


def test_missing_inputs_are_named() -> None:
    nodes = whole()
    del nodes["5"]["inputs"]["latent_image"]
    assert problems(nodes) == {'nodes["5"].inputs.latent_image': "is required by KSampler (LATENT)"}
    assert problems(nodes, None) == {}


def test_unknown_classes_are_named_with_those_near() -> None:
    nodes = whole()
    nodes["5"]["class_type"] = "KSamplr"
    found = problems(nodes)['nodes["5"].class_type']
    assert found.startswith('no connected ComfyUI has the node class "KSamplr"; did you mean')
    assert '"KSampler"' in found


def test_classes_without_signature_are_taken_as_they_are() -> None:
    nodes = whole()
    nodes["7"]["class_type"] = "SomebodysSaver"
    known = NodeSignatures(SIGNATURES.values(), unsigned=["SomebodysSaver"])
    assert problems(nodes, known) == {}
    assert list(problems(nodes)) == ['nodes["7"].class_type']


def test_a_graph_needs_an_output() -> None:
    nodes = whole()
    del nodes["7"]
    assert "has no output node" in problems(nodes)[""]


def test_cycles_are_found_also_without_signatures() -> None:
    nodes = graph(changed("4", width=["6", 0]))
    for signatures in (SIGNATURES, None):
        found = [str(each) for each in structure_problems(nodes, signatures)]
        assert found[0] == ('nodes["4"].inputs.width: is part of a cycle: "4" ← "6" ← "5" ← "4"')
    assert "cycle" in problems(changed("5", model=["5", 0]), None)['nodes["5"].inputs.model']


def test_a_long_cycle_is_cut() -> None:
    nodes = {
        str(n): {"class_type": "X", "inputs": {"a": [str((n + 1) % 500), 0]}} for n in range(500)
    }
    (text,) = problems(nodes, None).values()
    assert len(text) < 200


def test_only_what_outputs_need_is_checked_for_values() -> None:
    nodes = whole()
    nodes["8"] = {"class_type": "EmptyLatentImage", "inputs": {"width": -3}}
    assert problems(nodes) == {}
    nodes["8"]["inputs"]["width"] = ["nowhere", 0]
    assert list(problems(nodes)) == ['nodes["8"].inputs.width']


def test_any_of_several_comfyuis_is_enough() -> None:
    other = object_info()
    other["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = ["pony.safetensors"]
    other["KSampler"]["input"]["required"]["steps"][1]["max"] = 20_000
    other["KSampler"]["input"]["required"]["extra"] = ["INT", {}]
    both = signatures_of(INFO, other)
    nodes = changed("5", steps=15_000)
    assert problems(nodes, both) == {}
    for name in ("pony.safetensors", "sd15.safetensors"):
        assert problems(changed("1", ckpt_name=name), both) == {}
    assert problems(changed("1", ckpt_name="none"), both)


def test_choices_that_are_numbers_are_compared_by_value() -> None:
    info = {
        "Out": {
            "input": {"required": {"size": [[1, 2.5]], "flag": [[True]]}},
            "output": [],
            "output_node": True,
        }
    }
    known = signatures_of(info)

    def found(size: Any) -> Any:
        return problems({"1": {"class_type": "Out", "inputs": {"size": size, "flag": True}}}, known)

    assert found(1) == found(1.0) == found(2.5) == {}
    assert found(2)
    assert found(True)


def test_types_may_be_joined_or_any() -> None:
    def node(kind: str, *outputs: str) -> dict[str, Any]:
        return {
            "input": {"required": {"a": [kind, {}]} if kind else {}},
            "output": list(outputs),
            "output_node": not outputs,
        }

    known = signatures_of(
        {
            "Gives": node("", "IMAGE", "MASK,LATENT", "*", "CLIP", "COMFY_MATCHTYPE_V3"),
            "Takes": node("IMAGE,MASK"),
            "TakesAny": node("*"),
        }
    )

    def fits(taker: str, slot: int) -> bool:
        return not problems(
            {
                "1": {"class_type": "Gives", "inputs": {}},
                "2": {"class_type": taker, "inputs": {"a": ["1", slot]}},
            },
            known,
        )

    assert [fits("Takes", slot) for slot in range(5)] == [True, True, True, False, True]
    assert all(fits("TakesAny", slot) for slot in range(5))


def test_wrong_names_in_long_lists_cost_little() -> None:
    models = [f"folder{n}/model number {n}.safetensors" for n in range(4_900)]
    info = {"Out": {"input": {"required": {"a": [models]}}, "output": [], "output_node": True}}
    known = signatures_of(info)
    for value in ("folder/model nmber 7", 3, 2.5):
        nodes = {str(n): {"class_type": "Out", "inputs": {"a": value}} for n in range(1_000)}
        started = time.process_time()
        assert len(structure_problems(graph(nodes), known)) == MAX_PROBLEMS
        assert time.process_time() - started < 3


def test_many_problems_are_bounded() -> None:
    nodes = {str(n): {"class_type": "Nope", "inputs": {"a": ["gone", 0]}} for n in range(1_000)}
    assert len(structure_problems(graph(nodes), SIGNATURES)) == MAX_PROBLEMS
