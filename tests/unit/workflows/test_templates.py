"""Templates take values of the right type within bounds, and say precisely what else is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job_service.workflows.builtin_templates import builtin_templates
from job_service.workflows.graph import graph_of
from job_service.workflows.job_fields import FIELD_PATHS
from job_service.workflows.loras import Lora
from job_service.workflows.parameters import (
    Parameter,
    ParameterType,
    Target,
    parameters_from_proto,
)
from job_service.workflows.preparation import PreparedGraph, prepare_template, prepare_workflow
from job_service.workflows.problems import InvalidWorkflowError, Problem
from job_service.workflows.safety import SafetyRules
from job_service.workflows.template import Template
from job_service.workflows.template_checks import template_problems
from tests.unit.workflows.comfyui_rules import comfyui_errors
from tests.unit.workflows.object_info import INFO, MODELS, SIGNATURES
from tests.unit.workflows.object_info import text_to_image as whole

RULES = SafetyRules()
STRENGTH = Parameter(
    "strength",
    ParameterType.NUMBER,
    default_json="7.50",
    minimum=1,
    maximum=9,
    targets=(Target("5", "cfg"),),
)


def template(*parameters: Parameter) -> Template:
    return Template("mine", graph_of(whole()), parameters)


def prepare(
    chosen: Template,
    arguments: dict[str, Any] | None = None,
    *,
    inputs: tuple[str, ...] = (),
    loras: tuple[Lora, ...] = (),
    **fields: Any,
) -> PreparedGraph:
    return prepare_template(
        chosen,
        arguments=arguments or {},
        fields={"prompt": "a heron", **fields},
        inputs=inputs,
        loras=loras,
        draw_seed=lambda: 4711,
        rules=RULES,
        signatures=SIGNATURES,
    )


def outcome_of(prepared: Callable[[], PreparedGraph]) -> PreparedGraph | tuple[Problem, ...]:
    try:
        return prepared()
    except InvalidWorkflowError as error:
        return error.problems


def refused(chosen: Template, arguments: dict[str, Any] | None = None, **more: Any) -> Any:
    with pytest.raises(InvalidWorkflowError) as error:
        prepare(chosen, arguments, **more)
    return {each.path: each.description for each in error.value.problems}


def test_values_go_to_their_targets_and_defaults_keep_their_text() -> None:
    prepared = prepare(template(STRENGTH))
    assert '"cfg": 7.50' in prepared.workflow_json
    assert '"seed": 9007199254740993' in prepared.workflow_json
    assert prepare(template(STRENGTH), {"strength": 3}).values == {"strength": 3}


@pytest.mark.parametrize(
    ("parameter", "arguments", "path", "part"),
    [
        (STRENGTH, {"strength": 10}, "template.arguments_json.strength", "at most 9, is 10"),
        (STRENGTH, {"strength": 0.5}, "template.arguments_json.strength", "at least 1, is 0.5"),
        (STRENGTH, {"strength": "3"}, "template.arguments_json.strength", 'a number, is "3"'),
        (STRENGTH, {"strength": True}, "template.arguments_json.strength", "a number, is true"),
        (STRENGTH, {"strngth": 3}, "template.arguments_json.strngth", 'did you mean "strength"'),
        (STRENGTH, {"a b": 3}, "template.arguments_json", 'no parameter "a b"'),
        (STRENGTH, {"steps": 3}, "template.arguments_json.steps", "set sampler.steps instead"),
        (
            replace(STRENGTH, required=True, default_json=""),
            {},
            "template.arguments_json.strength",
            "is required by the template",
        ),
        (
            replace(STRENGTH, choices_json=("3", "4.0")),
            {"strength": 5},
            "template.arguments_json.strength",
            "must be one of 3, 4.0, is 5",
        ),
        (
            Parameter("mode", ParameterType.CHOICE, targets=(Target("5", "scheduler"),)),
            {"mode": "karas"},
            "template.arguments_json.mode",
            'did you mean "karras"',
        ),
        (
            Parameter("noise", ParameterType.SEED, targets=(Target("5", "seed"),)),
            {"noise": 2**63},
            "template.arguments_json.noise",
            "at most 9,223,372,036,854,775,807",
        ),
        (
            Parameter("words", ParameterType.STRING, maximum=3, targets=(Target("2", "text"),)),
            {"words": "four"},
            "template.arguments_json.words",
            "at most 3 characters, has 4",
        ),
        (
            Parameter("name", ParameterType.STRING, targets=(Target("7", "filename_prefix"),)),
            {"name": "../x"},
            "template.arguments_json.name",
            "leads out of ComfyUI's own folders",
        ),
        (
            Parameter("wide", ParameterType.INTEGER, targets=(Target("4", "width"),)),
            {"wide": 8},
            "template.arguments_json.wide",
            "must be at least 16, is 8",
        ),
    ],
)
def test_wrong_arguments_are_named(
    parameter: Parameter, arguments: dict[str, Any], path: str, part: str
) -> None:
    found = refused(template(parameter), arguments)
    assert list(found) == [path]
    assert part in found[path]


def test_fields_go_before_defaults_and_those_before_what_stands_in_the_graph() -> None:
    flux = builtin_templates()["flux"]
    values = prepare(flux).values
    assert (values["steps"], values["width"], values["denoise"]) == (20, 1024, 1.0)
    assert values["seed"] == 4711
    assert prepare(flux, steps=4).values["steps"] == 4


def test_fields_without_a_parameter_are_violations() -> None:
    upscale = builtin_templates()["upscale"]
    found = refused(upscale, inputs=("image",), cfg=3.0, negative_prompt="x", seed=3)
    assert list(found) == ["sampler.cfg", "negative_prompt", "sampler.seed"]
    assert 'the template "upscale" has no parameter for this field' in found["sampler.cfg"]
    assert prepare(upscale, inputs=("image",)).used_inputs == ("image",)


def test_inputs_must_be_bound_and_used() -> None:
    upscale = builtin_templates()["upscale"]
    assert 'needs the input "image"' in refused(upscale)["inputs"]
    assert 'uses the input "other"' in refused(upscale, inputs=("image", "other"))["inputs"]
    found = refused(upscale, {"image": "x.png"}, inputs=("image",))
    assert "bind it in the job's inputs" in found["template.arguments_json.image"]


def test_seeds_are_drawn_when_none_is_given() -> None:
    drawn = Parameter("noise", ParameterType.SEED, targets=(Target("5", "seed"),))
    assert prepare(template(drawn)).values == {"noise": 4711}
    assert prepare(template(drawn), {"noise": -1}).values == {"noise": 4711}
    assert (
        '"seed": 9007199254740995'
        in prepare(template(drawn), {"noise": 9007199254740995}).workflow_json
    )


def test_loras_are_put_in() -> None:
    base = builtin_templates()["text-to-image"]
    lora = Lora("detail.safetensors", 1.0, 1.0)
    prepared = prepare(base, loras=(lora,), checkpoint_model="sd15.safetensors")
    assert prepared.needs.loras == ("detail.safetensors",)
    assert "lora_models" in refused(
        builtin_templates()["upscale"], inputs=("image",), loras=(lora,)
    )


@pytest.mark.parametrize("chosen", builtin_templates().values(), ids=list(builtin_templates()))
def test_built_in_templates_can_be_stored(chosen: Template) -> None:
    assert template_problems(chosen, RULES, SIGNATURES) == []
    again = parameters_from_proto([each.to_proto() for each in chosen.parameters])
    assert again == chosen.parameters


@pytest.mark.parametrize(
    ("parameter", "path", "part"),
    [
        (replace(STRENGTH, name="a-b"), "parameters[0].name", "letters, digits"),
        (replace(STRENGTH, targets=()), "parameters[0].targets", "1 to 64"),
        (
            replace(STRENGTH, targets=(Target("55", "cfg"),)),
            "parameters[0].targets[0].node_id",
            'no node "55"; did you mean "5"',
        ),
        (
            replace(STRENGTH, targets=(Target("5", "cgf"),)),
            "parameters[0].targets[0].input_name",
            'did you mean "cfg"',
        ),
        (
            replace(STRENGTH, targets=(Target("5", "model"),)),
            "parameters[0].targets[0].input_name",
            "is a link",
        ),
        (replace(STRENGTH, default_json="10"), "parameters[0].default_json", "at most 9"),
        (replace(STRENGTH, default_json="x"), "parameters[0].default_json", "not valid JSON"),
        (replace(STRENGTH, default_json="null"), "parameters[0].default_json", "not be null"),
        (replace(STRENGTH, default_json="NaN"), "parameters[0].default_json", "finite"),
        (replace(STRENGTH, choices_json=('"a"',)), "parameters[0].choices_json[0]", "a number"),
        (
            replace(STRENGTH, choices_json=("3",)),
            "parameters[0].default_json",
            "must be one of 3, is 7.50",
        ),
        (replace(STRENGTH, minimum=20), "parameters[0].minimum", "at most the maximum, 9"),
        (
            replace(STRENGTH, minimum=float("nan")),
            "parameters[0].minimum",
            "must be finite numbers",
        ),
        (replace(STRENGTH, name="steps"), "parameters[0].type", "must be INTEGER"),
        (
            Parameter("picture", ParameterType.INPUT, targets=(Target("2", "text"),)),
            "parameters[0].required",
            "must be required",
        ),
    ],
)
def test_wrong_parameters_are_named(parameter: Parameter, path: str, part: str) -> None:
    found = {
        each.path: each.description
        for each in template_problems(template(parameter), RULES, SIGNATURES)
    }
    assert list(found) == [path]
    assert part in found[path]


def test_names_and_targets_are_taken_once() -> None:
    found = template_problems(template(STRENGTH, STRENGTH), RULES, SIGNATURES)
    assert [each.path for each in found] == ["parameters[1].name"]
    found = template_problems(template(STRENGTH, replace(STRENGTH, name="b")), RULES, SIGNATURES)
    assert [each.path for each in found] == ["parameters[1].targets[0]"]


def test_the_graph_of_a_template_is_checked_too() -> None:
    nodes = whole()
    nodes["5"]["inputs"]["steps"] = 0
    nodes["7"]["inputs"]["filename_prefix"] = "/x"
    nodes["8"] = {"class_type": "LoadImage", "inputs": {"image": "somebody.png"}}
    found = template_problems(Template("Mine", graph_of(nodes)), RULES, SIGNATURES)
    assert {each.path for each in found} == {"name"} | {
        f'workflow_json.nodes["{node}"].inputs.{name}'
        for node, name in (("5", "steps"), ("7", "filename_prefix"), ("8", "image"))
    }


def test_a_graph_in_api_format_is_kept_byte_for_byte() -> None:
    text = json.dumps(whole(), indent=1).replace("7.5", "7.50")

    def prepared(**more: Any) -> PreparedGraph:
        bound: dict[str, Any] = {"inputs": (), "loras": (), **more}
        return prepare_workflow(text, rules=RULES, signatures=SIGNATURES, **bound)

    assert prepared().workflow_json == text
    with_lora = prepared(loras=(Lora("detail.safetensors", 1.0, 1.0),)).workflow_json
    assert '"cfg": 7.50' in with_lora
    assert "lora_1" in with_lora
    with pytest.raises(InvalidWorkflowError) as error:
        prepared(inputs=("photo",))
    assert [each.path for each in error.value.problems] == ["inputs"]


def _values(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Values for a parameter: mostly fitting, sometimes not."""
    number = st.integers(-5, 20_000) | st.sampled_from([2**53 + 1, 2**63 - 1, 2**64])
    names = st.sampled_from(
        [
            *(name for names in MODELS.values() for name in names),
            *("euler", "karras", "normal", "lanczos", "red", "default", "none such", "../x"),
        ]
    )
    match parameter.type:
        case ParameterType.STRING:
            return st.text(max_size=20) | st.sampled_from(["/etc/passwd", "http://x"])
        case ParameterType.INTEGER | ParameterType.SEED:
            return number
        case ParameterType.NUMBER:
            return st.floats(-2, 40) | st.integers(0, 9) | st.just("x")
        case ParameterType.CHOICE:
            return names
        case _:
            return st.booleans()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(st.data())
def test_what_is_prepared_comfyui_accepts(data: st.DataObject) -> None:
    """Any template with any values gives a graph that ComfyUI accepts, or problems."""
    chosen = data.draw(st.sampled_from(list(builtin_templates().values())))
    arguments: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    bound = []
    for parameter in chosen.parameters:
        if parameter.type is ParameterType.INPUT:
            bound.append(parameter.name)
        elif parameter.required or data.draw(st.integers(0, 3)) == 0:
            given = fields if parameter.name in FIELD_PATHS else arguments
            given[parameter.name] = data.draw(_values(parameter))
    fields.setdefault("prompt", "x")
    prepared = outcome_of(lambda: prepare(chosen, arguments, inputs=tuple(bound), **fields))
    if isinstance(prepared, PreparedGraph):
        assert comfyui_errors(json.loads(prepared.workflow_json), INFO) == []
    else:
        paths = [each.path for each in prepared]
        known = ("template.arguments_json", *FIELD_PATHS.values())
        assert paths
        assert all(path.startswith(known) for path in paths), prepared


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_passes_the_checks_comfyui_accepts(data: st.DataObject) -> None:
    """A good graph with a few inputs changed at random is refused, or accepted by ComfyUI."""
    nodes = whole()
    for _ in range(data.draw(st.integers(1, 2))):
        node = nodes[data.draw(st.sampled_from(sorted(nodes)))]
        name = data.draw(st.sampled_from([*sorted(node["inputs"]), "class_type", "gone"]))
        value = data.draw(
            st.none()
            | st.booleans()
            | st.integers(-1, 2**65)
            | st.floats(-1, 200)
            | st.sampled_from(["euler", "1", "x", "sd15.safetensors", "", "nan"])
            | st.tuples(st.sampled_from([*nodes, "99"]), st.integers(0, 3)).map(list)
        )
        if name == "class_type":
            node["class_type"] = data.draw(st.sampled_from(["KSampler", "VAEDecode", "Nope"]))
        elif name == "gone":
            node["inputs"].pop(data.draw(st.sampled_from(sorted(node["inputs"]))), None)
            if not node["inputs"]:
                return
        else:
            node["inputs"][name] = value
    text = json.dumps(nodes)
    prepared = outcome_of(
        lambda: prepare_workflow(text, inputs=(), loras=(), rules=RULES, signatures=SIGNATURES)
    )
    assert not isinstance(prepared, PreparedGraph) or comfyui_errors(nodes, INFO) == []
