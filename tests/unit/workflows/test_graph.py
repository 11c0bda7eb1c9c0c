"""Graphs are read precisely and written back with every number as it was."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job_service.workflows import exact_json
from job_service.workflows.graph import dump, parse
from job_service.workflows.problems import MAX_PROBLEMS, InvalidWorkflowError

NODE = '{"class_type": "K", "inputs": {%s}}'
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBER_TEXT = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.builds("{}.{:020}".format, st.integers(-(10**20), 10**20), st.integers(0, 10**20 - 1)),
    st.builds("{}.{}E{:+}".format, st.integers(-99, 99), st.integers(0, 99), st.integers(-99, 99)),
    st.sampled_from(["-0", "-0.0", "1E5", "18446744073709551615", "9007199254740993", "0.10"]),
)
quiet = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)


def problems_of(text: str, **bounds: int) -> dict[str, str]:
    with pytest.raises(InvalidWorkflowError) as refused:
        parse(text, **bounds)
    return {each.path: each.description for each in refused.value.problems}


@quiet
@given(st.dictionaries(TEXT.filter(bool), st.dictionaries(TEXT, NUMBER_TEXT), min_size=1))
def test_numbers_and_order_survive_byte_for_byte(graph: dict[str, dict[str, str]]) -> None:
    quote = json.JSONEncoder(ensure_ascii=False).encode
    nodes = []
    for node_id, inputs in graph.items():
        values = ", ".join(f"{quote(name)}: {number}" for name, number in inputs.items())
        nodes.append(f'{quote(node_id)}: {{"inputs": {{{values}}}, "class_type": "K"}}')
    text = "{" + ", ".join(nodes) + "}"
    assert dump(parse(text)) == text


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


@quiet
@given(VALUES)
def test_any_document_comes_back_equal(value: Any) -> None:
    assert json.loads(exact_json.dumps(exact_json.loads(json.dumps(value)))) == value
    assert not list(exact_json.flaws(exact_json.loads(json.dumps(value))))


@quiet
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidWorkflowError):
        assert parse(text).nodes


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("", "", "is not valid JSON"),
        ('{"1": }', "", "at line 1, column 7"),
        ("[]", "", "must be a JSON object"),
        ("3", "", "must be a JSON object"),
        ("{}", "", "has no nodes"),
        ('{"prompt": {"1": {"class_type": "K", "inputs": {}}}}', "", 'stands under "prompt"'),
        ('{"1": 3}', 'nodes["1"]', "must be an object with class_type"),
        ('{"1": {"inputs": {}}}', 'nodes["1"].class_type', "is required"),
        ('{"1": {"class_type": 3, "inputs": {}}}', 'nodes["1"].class_type', "is required"),
        ('{"1": {"class_type": "K"}}', 'nodes["1"].inputs', "is required"),
        ('{"": {"class_type": "K", "inputs": {}}}', 'nodes[""]', "1 to 255 characters"),
        ('{"1": %s}' % (NODE % '"a": 1, "a": 2'), 'nodes["1"].inputs.a', "more than once"),
        ('{{"1": {}, "1": {}}}'.format(NODE % "", NODE % ""), 'nodes["1"]', "more than once"),
        ('{"1": %s}' % (NODE % '"a": {"b": 1, "b": 1}'), 'nodes["1"].inputs.a.b', "once"),
        ('{"1": %s}' % (NODE % '"a": NaN'), 'nodes["1"].inputs.a', "is NaN, not a finite"),
        ('{"1": %s}' % (NODE % '"a": {"b": -Infinity}'), 'nodes["1"].inputs.a.b', "finite"),
        ('{"1": %s}' % (NODE % '"a": 1e400'), 'nodes["1"].inputs.a', "not a finite number"),
        ('{"1": %s}' % (NODE % f'"a": {"9" * 101}'), 'nodes["1"].inputs.a', "100 digits"),
        ('{"1": %s}' % (NODE % f'"a": 0.{"9" * 101}'), 'nodes["1"].inputs.a', "100 digits"),
        ('{"1": %s}' % (NODE % '"a": "\\u0000"'), 'nodes["1"].inputs.a', "NUL"),
        ('{"1": %s}' % (NODE % '"a": "\\ud800"'), 'nodes["1"].inputs.a', "surrogate"),
        ('{"1": %s}' % (NODE % '"\\udc00": 1'), 'nodes["1"].inputs["?"]', "its name must not"),
        ('{"1": %s}' % (NODE % '"a b": [1, 2]'), 'nodes["1"].inputs["a b"]', "by text"),
        ('{"1": %s}' % (NODE % '"a": ["1", 1.5]'), 'nodes["1"].inputs.a', "whole number"),
        ('{"1": %s}' % (NODE % '"a": ["1", -1]'), 'nodes["1"].inputs.a', "whole number"),
        ('{"1": %s}' % (NODE % '"a": ["1", true]'), 'nodes["1"].inputs.a', "whole number"),
        ('{"1": %s}' % (NODE % '"a": []'), 'nodes["1"].inputs.a', "__value__"),
        ('{"1": %s}' % (NODE % '"a": [1, 2, 3]'), 'nodes["1"].inputs.a', "__value__"),
    ],
)
def test_what_is_wrong_is_named(text: str, path: str, part: str) -> None:
    found = problems_of(text)
    assert part in found[path]


def test_what_stands_beside_the_inputs_is_kept() -> None:
    text = (
        '{"1": {"inputs": {"a": {"__value__": [1, 2]}}, "class_type": "K",'
        ' "is_changed": [NaN], "_meta": {"title": "Ünï \\"x\\""}}}'
    )
    assert dump(parse(text)) == text


def test_sizes_are_bounded() -> None:
    many = json.dumps({str(n): {"class_type": "K", "inputs": {}} for n in range(10_000)})
    assert problems_of(many) == {"": "must have at most 1,000 nodes, has 10,000"}
    assert len(parse(many, max_nodes=10_000).nodes) == 10_000
    assert "at most 1,048,576 bytes" in problems_of('{"1": "' + "x" * 2**20 + '"}')[""]
    assert "at most 1,048,576 bytes" in problems_of('{"1": "' + "ü" * 2**19 + '"}')[""]
    deep = '{"1": ' + NODE % ('"a": ' + '{"b":' * 70 + "1" + "}" * 70) + "}"
    assert problems_of(deep) == {"": "is nested deeper than 64 levels (in line 1)"}
    assert "nested deeper" in problems_of("[" * 1_000_000)[""]


def test_a_bracket_in_a_text_is_no_depth() -> None:
    parse('{"1": %s}' % (NODE % ('"a": "' + "[{" * 100 + '\\"[["')))


def test_only_so_many_problems_are_listed() -> None:
    many = json.dumps({str(n): 1 for n in range(900)})
    assert len(problems_of(many)) == MAX_PROBLEMS


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 500_000,
        "{" * 60 + '"a":' * 200_000,
        '{"1": ' + NODE % ('"a": "' + "\\\\" * 500_000 + '"') + "}",
        "[" + "[],".join([""] * 300_000) + "[]]",
        '{"1": {"class_type": "K", "inputs": {' + '"a":1,' * 150_000 + '"b":1}}}',
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    with contextlib.suppress(InvalidWorkflowError):
        parse(text[: 2**20])
    assert time.process_time() - started < 5
