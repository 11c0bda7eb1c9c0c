"""Properties of execution order, signatures and validation over generated graphs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_worker.simulator import SimulatorSettings
from comfy_worker.simulator.graph import ExecutionOrder, links
from comfy_worker.simulator.nodes import Options, node_classes
from comfy_worker.simulator.result_cache import Signatures
from comfy_worker.simulator.storage import Storage
from comfy_worker.simulator.validation import validate

CLASSES = node_classes()
ERROR_TYPES = {
    *("required_input_missing", "value_not_in_list", "value_smaller_than_min"),
    *("value_bigger_than_max", "invalid_input_type", "return_type_mismatch", "bad_linked_input"),
    *("exception_during_validation", "exception_during_inner_validation"),
    "custom_validation_failed",
}


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    made = Storage(SimulatorSettings())
    yield made
    made.close()


@st.composite
def acyclic_graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Graphs of nodes that take pictures from nodes before them; some of them are outputs."""
    graph: dict[str, Any] = {"0": _image(0)}
    for number in range(1, draw(st.integers(1, 12))):
        source = str(draw(st.integers(0, number - 1)))
        kind = draw(st.sampled_from(("ImageInvert", "SaveImage", "EmptyImage")))
        while graph[source]["class_type"] == "SaveImage":
            source = graph[source]["inputs"]["images"][0]
        if kind == "ImageInvert":
            graph[str(number)] = {"class_type": kind, "inputs": {"image": [source, 0]}}
        elif kind == "SaveImage":
            inputs = {"images": [source, 0], "filename_prefix": f"p{number}"}
            graph[str(number)] = {"class_type": kind, "inputs": inputs}
        else:
            graph[str(number)] = _image(draw(st.integers(0, 3)))
    graph["end"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["0", 0], "filename_prefix": "end"},
    }
    return graph


def _image(color: int) -> dict[str, Any]:
    inputs = {"width": 8, "height": 8, "batch_size": 1, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}


def _needed(graph: dict[str, Any], outputs: list[str]) -> set[str]:
    needed: set[str] = set()
    stack = list(outputs)
    while stack:
        node_id = stack.pop()
        needed.add(node_id)
        stack.extend(source for source, _ in links(graph[node_id]["inputs"]))
    return needed


@given(acyclic_graphs())
def test_every_needed_node_runs_once_and_after_its_sources(graph: dict[str, Any]) -> None:
    outputs = [node_id for node_id in graph if graph[node_id]["class_type"] == "SaveImage"]
    order = ExecutionOrder(
        graph, outputs, is_output=outputs.__contains__, is_cached=lambda node_id: False
    )
    ran: list[str] = []
    while (node_id := order.next()) is not None:
        assert all(source in ran for source, _ in links(graph[node_id]["inputs"]))
        ran.append(node_id)
        order.done(node_id)

    assert len(ran) == len(set(ran))
    assert set(ran) == _needed(graph, outputs)


@given(acyclic_graphs(), st.data())
def test_a_signature_depends_on_what_nodes_do_not_on_their_ids(
    graph: dict[str, Any], data: st.DataObject
) -> None:
    names = data.draw(st.permutations([f"node {number}" for number in range(len(graph))]))
    renamed_ids = dict(zip(graph, names, strict=True))
    renamed = {
        renamed_ids[node_id]: {
            "class_type": node["class_type"],
            "inputs": {
                name: [renamed_ids[value[0]], value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            },
        }
        for node_id, node in graph.items()
    }
    known = _signatures(graph)

    assert {renamed_ids[node_id]: known[node_id] for node_id in graph} == _signatures(renamed)
    graph["0"]["inputs"]["color"] = 77
    for node_id, signature in _signatures(graph).items():
        depends = "0" in _needed(graph, [node_id])
        assert (signature != known[node_id]) == depends


def _signatures(graph: dict[str, Any]) -> dict[str, str]:
    return Signatures(graph, CLASSES.__getitem__, lambda name: name).all()


def test_a_node_that_depends_on_itself_has_no_signature() -> None:
    graph = {
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": _image(0),
        "4": {"class_type": "SaveImage"},
    }

    assert list(_signatures(graph)) == ["3"]


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.tuples(st.sampled_from("0123"), st.integers(-2, 3)).map(list),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
nodes = st.sampled_from(sorted(CLASSES)).flatmap(
    lambda name: st.fixed_dictionaries(
        {
            "class_type": st.just(name),
            "inputs": st.dictionaries(
                st.sampled_from([*(spec.name for spec in CLASSES[name].inputs), "bogus"]), values
            ),
        }
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=st.dictionaries(st.sampled_from("0123"), nodes, max_size=4))
def test_any_graph_of_known_classes_is_judged(graph: dict[str, Any], storage: Storage) -> None:
    options = Options(checkpoints=("a",), loras=("b",))
    verdict = validate(graph, None, classes=CLASSES, options=options, storage=storage)

    assert (verdict.error is None) == bool(verdict.outputs)
    for entry in verdict.node_errors.values():
        assert entry["dependent_outputs"]
        for error in entry["errors"]:
            assert error["type"] in ERROR_TYPES
            assert isinstance(error["details"], str)


def test_a_long_list_of_choices_is_not_quoted(storage: Storage, tmp_path: Path) -> None:
    graph = {
        "1": {"class_type": "KSampler", "inputs": {"sampler_name": "nope"}},
        "2": {"class_type": "VAEDecode", "inputs": {"samples": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }
    verdict = validate(graph, None, classes=CLASSES, options=Options(), storage=storage)

    (error,) = [
        each for each in verdict.node_errors["1"]["errors"] if each["type"] == "value_not_in_list"
    ]
    assert error["details"] == "sampler_name: 'nope' not in (list of length 44)"
    assert error["extra_info"]["input_config"] is None
