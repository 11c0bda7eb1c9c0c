"""Failures name their cause in words and codes, and carry no traceback or path to users."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui import Failure, FailureCode
from comfy_worker.comfyui.errors import InputError
from comfy_worker.comfyui.failures import (
    failure_of_entry,
    failure_of_inputs,
    failure_of_rejection,
    public_message,
)
from comfy_worker.comfyui.prompt_state import Ending, HistoryEntry, history_entry_of
from comfy_worker.comfyui.rejection import input_errors_of, rejection_of
from comfy_worker.comfyui.suggestions import with_suggestions
from tests.worker.comfyui import recorded

VALIDATION = {
    "unknown class": FailureCode.NODE_NOT_FOUND,
    "missing class_type": FailureCode.INVALID_WORKFLOW,
    "missing input": FailureCode.INVALID_WORKFLOW,
    "no inputs key": FailureCode.INVALID_WORKFLOW,
    "ckpt not in list": FailureCode.MODEL_NOT_FOUND,
    "no outputs": FailureCode.INVALID_WORKFLOW,
    "value below min": FailureCode.INVALID_WORKFLOW,
    "value above max": FailureCode.INVALID_WORKFLOW,
    "bad type": FailureCode.INVALID_WORKFLOW,
    "type mismatch link": FailureCode.INVALID_WORKFLOW,
    "dangling link": FailureCode.INVALID_WORKFLOW,
    "cycle": FailureCode.INVALID_WORKFLOW,
    "LoadImage missing file": FailureCode.INVALID_WORKFLOW,
    "body list": FailureCode.INVALID_WORKFLOW,
}


def refused(note: str) -> Failure:
    status, body = recorded.noted_answers("05_validation")[note]
    assert status == 400
    return failure_of_rejection(rejection_of(body))


@pytest.mark.parametrize(("note", "code"), VALIDATION.items())
def test_every_recorded_rejection_has_a_code_and_a_clean_message(
    note: str, code: FailureCode
) -> None:
    failure = refused(note)
    assert failure.code is code
    assert failure.message
    assert "Traceback" not in failure.message
    assert "/ComfyUI" not in failure.message


def test_a_missing_checkpoint_is_named() -> None:
    failure = refused("ckpt not in list")
    assert failure.message == (
        "CheckpointLoaderSimple (1) ckpt_name: 'nope.safetensors' is not one of the server's "
        "choices"
    )
    assert (failure.node_id, failure.node_class) == ("1", "CheckpointLoaderSimple")
    assert [error.kind for error in failure.inputs] == ["value_not_in_list"]


def test_a_cycle_is_called_one_though_comfyui_says_nothing() -> None:
    assert "circle" in refused("cycle").message


def test_an_unknown_class_is_named_with_its_node() -> None:
    failure = refused("unknown class")
    assert failure.node_id == "1"
    assert "NoSuch" in failure.message


@pytest.mark.parametrize("note", ["no inputs key", "dangling link"])
def test_the_traceback_of_a_failed_check_is_for_operators_alone(note: str) -> None:
    failure = refused(note)
    assert "execution.py" in failure.technical_details
    assert "execution.py" not in failure.message
    assert all("execution.py" not in f"{error}" for error in failure.inputs)


def refused_choice(value: str, choices: list[str] | None) -> InputError:
    """A value that is not in the list, which ComfyUI repeats up to 20 entries (recording 05)."""
    config = None if choices is None else [choices, {}]
    (error,) = input_errors_of(
        {
            "1": {
                "class_type": "CheckpointLoaderSimple",
                "errors": [
                    {
                        "type": "value_not_in_list",
                        "message": "Value not in list",
                        "details": "…",
                        "extra_info": {
                            "input_name": "ckpt_name",
                            "received_value": value,
                            "input_config": config,
                        },
                    }
                ],
            }
        }
    )
    return error


@pytest.mark.parametrize(
    ("value", "choices", "suggested"),
    [
        ("sdxl.safetensors", ["sdxl.ckpt", "sd15.ckpt"], "sdxl.ckpt"),
        ("SDXL_base", ["models/sdxl_base.safetensors", "x.pt"], "models/sdxl_base.safetensors"),
        ("eulr", ["euler", "heun", "ddim"], "euler"),
        ("dpmpp 2m", ["euler", "dpmpp_2m"], "dpmpp_2m"),
    ],
)
def test_a_wrong_value_comes_with_the_one_it_was_meant_to_be(
    value: str, choices: list[str], suggested: str
) -> None:
    error = with_suggestions(refused_choice(value, choices), lambda *_: ())
    assert error.suggestions[0] == suggested
    assert f"did you mean {suggested!r}" in error.message


def test_nothing_is_suggested_that_is_not_alike() -> None:
    error = with_suggestions(refused_choice("zebra", ["euler", "heun"]), lambda *_: ())
    assert error.suggestions == ()
    assert "did you mean" not in error.message


def test_the_list_comes_from_elsewhere_where_it_is_too_long_to_be_repeated() -> None:
    asked: list[tuple[str, str]] = []

    def choices(node_class: str, input_name: str) -> list[str]:
        asked.append((node_class, input_name))
        return [f"model-{number}.safetensors" for number in range(5000)]

    error = with_suggestions(refused_choice("model_77", None), choices)
    assert asked == [("CheckpointLoaderSimple", "ckpt_name")]
    assert error.suggestions[0] == "model-77.safetensors"


def test_a_value_out_of_range_says_which() -> None:
    assert refused("value above max").message == (
        "EmptyImage (1) width: Value 999999 bigger than max of 16384"
    )


def test_several_wrong_inputs_are_all_kept() -> None:
    failure = refused("missing input")
    assert {error.input_name for error in failure.inputs} == {"color", "batch_size", "height"}


def test_a_partly_refused_prompt_names_the_refused_output() -> None:
    status, body = recorded.noted_answers("05_validation")[
        "sampler not in list (one of two outputs bad)"
    ]
    assert status == 200
    failure = failure_of_inputs(input_errors_of(body["node_errors"]))
    assert (failure.node_id, failure.node_class) == ("9", "SaveImage")


def test_a_sampler_that_is_not_offered_is_no_missing_model() -> None:
    errors = {
        "3": {
            "class_type": "KSampler",
            "errors": [
                {
                    "type": "value_not_in_list",
                    "message": "Value not in list",
                    "details": "sampler_name: 'x' not in [...]",
                    "extra_info": {"input_name": "sampler_name", "received_value": "x"},
                }
            ],
        }
    }
    assert failure_of_inputs(input_errors_of(errors)).code is FailureCode.INVALID_WORKFLOW


@given(st.from_type(type(json.loads("{}"))) | st.none() | st.integers() | st.lists(st.text()))
def test_any_rejection_body_gives_a_failure(body: object) -> None:
    assert failure_of_rejection(rejection_of(body)).message


def recorded_failures() -> list[HistoryEntry]:
    found = []
    for _, body in recorded.answers("06_execution_error", "/history/"):
        for prompt_id in body:
            entry = history_entry_of(body, prompt_id)
            if entry is not None and entry.ending is Ending.FAILED:
                found.append(entry)
    return found


def test_recorded_node_errors_are_told_without_traceback_or_path() -> None:
    failures = [failure_of_entry(entry) for entry in recorded_failures()]
    assert failures[0].message == "LoadImage (1) failed: OSError: Truncated File Read"
    assert failures[0].exception_type == "OSError"
    assert failures[1].message == "ProbeRaise (3) failed: ValueError: probe says no"
    for failure in failures:
        assert "/ComfyUI" not in failure.message
        assert len(failure.technical_details.encode()) <= 4096
    assert "Truncated File Read" in failures[0].technical_details
    assert "execution.py" in failures[1].technical_details


def test_a_recorded_path_is_hidden() -> None:
    message = "ERROR: cannot save to /ComfyUI-inst/output, or C:\\Users\\me\\x.png: denied"
    assert public_message(message) == "ERROR: cannot save to <path>, or <path>: denied"


@pytest.mark.parametrize(
    ("exception_type", "message", "code"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", FailureCode.OUT_OF_MEMORY),
        ("torch.cuda.OutOfMemoryError", "Allocation on device", FailureCode.OUT_OF_MEMORY),
        ("RuntimeError", "CUDA out of memory. Tried to allocate", FailureCode.OUT_OF_MEMORY),
        ("RuntimeError", "CUDA error: device-side assert", FailureCode.DEVICE_FAULT),
        ("torch.AcceleratorError", "CUDA error: unspecified", FailureCode.DEVICE_FAULT),
        ("ValueError", "bad", FailureCode.NODE_FAILED),
        ("", "", FailureCode.NODE_FAILED),
    ],
)
def test_memory_and_device_faults_are_told_apart(
    exception_type: str, message: str, code: FailureCode
) -> None:
    entry = HistoryEntry(
        Ending.FAILED, {}, exception_type=exception_type, exception_message=message
    )
    assert failure_of_entry(entry).code is code


@given(st.text())
def test_messages_are_one_short_line_of_valid_unicode(text: str) -> None:
    message = public_message(text + "\ud800\0")
    assert len(message) <= 500
    assert "\n" not in message
    assert "\0" not in message
    message.encode()
