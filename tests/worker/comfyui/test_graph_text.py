"""A graph goes through the worker as it came: every number, every key, in order."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui import parse_graph, texts_in, with_texts_replaced
from comfy_worker.comfyui.graph_text import write_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=30,
)
INPUTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=5)


def graph_with(number: str) -> str:
    return '{"3": {"class_type": "KSampler", "inputs": {"seed": ' + number + "}}}"


@pytest.mark.parametrize(
    "number",
    [
        "9007199254740993",
        "18446744073709551615",
        "-9223372036854775808",
        "123456789012345678901234567890",
        "0.1",
        "1.10",
        "5.0",
        "1E5",
        "1e400",
        "0.1000000000000000055511151231257827",
        "-0.0",
        "-0",
        "1e-7",
    ],
)
def test_a_number_is_written_as_it_was(number: str) -> None:
    assert write_json(parse_graph(graph_with(number))) == graph_with(number)


@given(INPUTS)
def test_what_is_read_is_written_with_its_keys_in_order(inputs: dict[str, Any]) -> None:
    graph = {"b": {"class_type": "A", "inputs": inputs, "_meta": {"title": "x"}}}
    text = json.dumps(graph)
    assert write_json(parse_graph(text)) == text


def test_a_deep_value_is_written_without_recursion() -> None:
    value: Any = "bottom"
    for _ in range(100_000):
        value = [value]
    text = write_json({"x": value})
    assert text.startswith('{"x": [[[')
    assert text.endswith("]]]}")
    # Taken apart here: the interpreter itself would free it recursively.
    while isinstance(value, list):
        value = value.pop()


def test_texts_are_found_and_replaced_wherever_they_stand() -> None:
    graph: dict[str, dict[str, Any]] = {
        "1": {
            "class_type": "Batch",
            "inputs": {
                "image": "input://face",
                "files": ["input://face", {"deep": ["input://mask"]}],
                "text": "see input://face",
                "input://face": 1,
                "link": ["2", 0],
            },
            "_meta": {"title": "input://face"},
        },
        "2": {"class_type": "NoInputs"},
    }
    assert sorted(set(texts_in(graph))) == ["2", "input://face", "input://mask", "see input://face"]
    before = json.dumps(graph)
    replaced = with_texts_replaced(graph, {"input://face": "f.png", "input://mask": "m.png"})
    assert replaced["1"]["inputs"] == {
        "image": "f.png",
        "files": ["f.png", {"deep": ["m.png"]}],
        "text": "see input://face",
        "input://face": 1,
        "link": ["2", 0],
    }
    assert replaced["1"]["_meta"] == {"title": "input://face"}
    assert json.dumps(graph) == before
