"""Uploads are named by the job's bindings and by nothing else."""

from typing import Any

import pytest

from job_service.workflows.graph import graph_of
from job_service.workflows.inputs import bind_inputs
from job_service.workflows.problems import InvalidWorkflowError
from tests.unit.workflows.object_info import SIGNATURES, signatures_of


def graph(**inputs: Any) -> Any:
    return graph_of({"1": {"class_type": "LoadImage", "inputs": inputs}})


def refused(nodes: Any, names: set[str], signatures: Any = SIGNATURES) -> str:
    with pytest.raises(InvalidWorkflowError) as error:
        bind_inputs(nodes, names, signatures)
    (problem,) = error.value.problems
    return str(problem)


@pytest.mark.parametrize("signatures", [SIGNATURES, None])
@pytest.mark.parametrize("value", ["photo", "input://photo"])
def test_a_binding_is_named_in_either_way(value: str, signatures: Any) -> None:
    given = graph(image=value)
    bound = bind_inputs(given, {"photo"}, signatures)
    assert bound.graph.nodes["1"].inputs["image"] == "input://photo"
    assert bound.used == ("photo",)
    assert given.nodes["1"].inputs["image"] == value, "the graph given is not changed"


def test_somebody_elses_file_is_refused_with_what_to_do() -> None:
    text = refused(graph(image="photo.png"), {"photo"})
    assert text.startswith('nodes["1"].inputs.image: names the file "photo.png"')
    assert "UploadInput" in text
    assert 'did you mean "photo"?' in text
    assert "names the file" in refused(graph(image="photo.png [output]"), set())


def test_unknown_names_are_refused_anywhere() -> None:
    assert 'no input "phto"; did you mean "photo"' in refused(
        graph(image="input://phto"), {"photo"}
    )
    elsewhere = graph_of({"1": {"class_type": "X", "inputs": {"a": {"b": ["input://gone"]}}}})
    assert 'has no input "gone"' in refused(elsewhere, set())


def test_a_link_names_no_upload() -> None:
    for value in (["2", 0], {"__value__": "photo"}, 3):
        text = refused(graph(image=value), set())
        assert 'must be the name of an input of the job: "input://NAME"' in text


def test_unused_bindings_are_refused() -> None:
    text = refused(graph(image="photo"), {"photo", "mask"})
    assert text == 'inputs: nothing in the graph uses the input "mask"'


def test_uploads_of_other_classes_are_known_by_their_signature() -> None:
    info = {
        "MyLoad": {"input": {"required": {"clip": [["a"], {"video_upload": True}]}}, "output": []}
    }
    nodes = graph_of({"1": {"class_type": "MyLoad", "inputs": {"clip": "mine"}}})
    assert bind_inputs(nodes, {"mine"}, signatures_of(info)).used == ("mine",)
    assert "names the file" in refused(nodes, set(), signatures_of(info))


def test_a_prompt_that_is_a_name_is_no_input() -> None:
    nodes = graph_of({"1": {"class_type": "CLIPTextEncode", "inputs": {"text": "photo"}}})
    assert "nothing in the graph uses" in refused(nodes, {"photo"})
    assert bind_inputs(nodes, set(), SIGNATURES).used == ()
