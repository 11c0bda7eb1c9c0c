"""The event parsers are total, and read what real servers send."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui.events import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    Malformed,
    NodeProgress,
    NodeText,
    PreviewImage,
    ProgressState,
    Status,
    StepProgress,
    Unknown,
    parse_binary,
    parse_text,
)
from comfy_worker.comfyui.outputs import OutputFile
from tests.worker.comfyui import recorded

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
KINDS = st.sampled_from(
    [
        "status",
        "execution_start",
        "execution_cached",
        "progress_state",
        "progress",
        "executing",
        "executed",
        "execution_success",
        "execution_error",
        "execution_interrupted",
        "feature_flags",
    ]
)
FIELDS = st.sampled_from(
    ["prompt_id", "node", "nodes", "node_id", "node_type", "value", "max", "state", "status"]
)
TEXTS = st.text(max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.text())
def test_any_text_gives_an_event(frame: str) -> None:
    assert isinstance(parse_text(frame), Malformed | Unknown)


@given(KINDS, st.dictionaries(FIELDS, JSON_VALUES) | JSON_VALUES)
def test_any_data_of_a_known_kind_gives_an_event(kind: str, data: object) -> None:
    assert parse_text(json.dumps({"type": kind, "data": data})) is not None


@given(st.binary())
def test_any_bytes_give_an_event(frame: bytes) -> None:
    assert parse_binary(frame) is not None


@given(st.sampled_from([1, 2, 3, 4]), st.binary())
def test_any_bytes_of_a_known_kind_give_an_event(kind: int, rest: bytes) -> None:
    assert parse_binary(struct.pack(">I", kind) + rest) is not None


@given(st.data())
def test_a_cut_preview_never_passes_for_metadata(data: st.DataObject) -> None:
    metadata = json.dumps({"prompt_id": "p", "node_id": "3", "image_type": "image/png"}).encode()
    frame = struct.pack(">II", 4, len(metadata)) + metadata + b"image"
    cut = data.draw(st.integers(0, 8 + len(metadata) - 1))
    assert isinstance(parse_binary(frame[:cut]), Malformed)


def test_deep_nesting_and_huge_numbers_are_malformed() -> None:
    assert isinstance(parse_text("[" * 100_000), Malformed)
    assert isinstance(parse_text('{"type":"progress","data":{"value":' + "9" * 5000), Malformed)
    too_large = f'{{"type": "progress", "data": {{"value": 1{"0" * 400}, "max": 2}}}}'
    assert parse_text(too_large) == Malformed("progress: value is out of range")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_no_progress(number: str) -> None:
    frame = f'{{"type": "progress", "data": {{"value": {number}, "max": 2}}}}'
    assert parse_text(frame) == Malformed("progress: value is not finite")


@given(TEXTS, TEXTS, NUMBERS, NUMBERS)
def test_step_progress_round_trip(prompt_id: str, node: str, value: float, maximum: float) -> None:
    frame = json.dumps(
        {
            "type": "progress",
            "data": {"value": value, "max": maximum, "prompt_id": prompt_id, "node": node},
        }
    )
    assert parse_text(frame) == StepProgress(prompt_id, node, value, maximum)


@given(TEXTS, st.dictionaries(TEXTS, st.tuples(NUMBERS, NUMBERS, TEXTS), max_size=5))
def test_progress_state_round_trip(
    prompt_id: str, nodes: dict[str, tuple[float, float, str]]
) -> None:
    body = {key: {"value": v, "max": m, "state": s} for key, (v, m, s) in nodes.items()}
    frame = json.dumps({"type": "progress_state", "data": {"prompt_id": prompt_id, "nodes": body}})
    assert parse_text(frame) == ProgressState(
        prompt_id, {key: NodeProgress(*node) for key, node in nodes.items()}
    )


@given(st.sampled_from([(1, "image/jpeg"), (2, "image/png")]), st.binary())
def test_plain_preview_round_trip(image_type: tuple[int, str], image: bytes) -> None:
    code, media_type = image_type
    frame = struct.pack(">II", 1, code) + image
    assert parse_binary(frame) == PreviewImage(None, None, media_type, image)


@given(TEXTS, TEXTS, st.binary())
def test_preview_with_metadata_round_trip(prompt_id: str, node_id: str, image: bytes) -> None:
    metadata = json.dumps(
        {"prompt_id": prompt_id, "node_id": node_id, "image_type": "image/png"}
    ).encode()
    frame = struct.pack(">II", 4, len(metadata)) + metadata + image
    assert parse_binary(frame) == PreviewImage(prompt_id, node_id, "image/png", image)


@given(TEXTS, TEXTS)
def test_node_text_round_trip(node_id: str, text: str) -> None:
    encoded = node_id.encode()
    frame = struct.pack(">II", 3, len(encoded)) + encoded + text.encode()
    assert parse_binary(frame) == NodeText(node_id, text)


@pytest.mark.parametrize("name", recorded.all_names())
def test_every_recorded_frame_is_understood(name: str) -> None:
    for frame in recorded.text_frames(name):
        event = parse_text(frame)
        assert not isinstance(event, Malformed), frame
        assert not isinstance(event, Unknown) or event.kind == "feature_flags", frame
    for binary in recorded.binary_frames(name):
        assert isinstance(parse_binary(binary), PreviewImage | NodeText)


def test_a_recorded_run_in_order() -> None:
    prompt_id = "6af838ef-016b-45d4-8583-20f1d0e6faae"
    events = [parse_text(frame) for frame in recorded.text_frames("02_empty_save_flags")]
    own = [event for event in events if not isinstance(event, Status | Unknown | ProgressState)]
    made = tuple(
        OutputFile("2", "images", f"probe02_0000{number}_.png", "", "output") for number in (3, 4)
    )
    assert own == [
        ExecutionStart(prompt_id),
        ExecutionCached(prompt_id, ()),
        Executing(prompt_id, "1"),
        Executing(prompt_id, "2"),
        Executed(prompt_id, "2", made),
        ExecutionSuccess(prompt_id),
        Executing(prompt_id, None),
    ]
    assert [event.queue_remaining for event in events if isinstance(event, Status)] == [0, 1, 1, 0]


def test_a_recorded_error_and_interrupt() -> None:
    errors = [
        event
        for event in map(parse_text, recorded.text_frames("06_execution_error"))
        if isinstance(event, ExecutionError)
    ]
    assert errors[0].node_class == "LoadImage"
    assert errors[0].exception_type == "OSError"
    interrupts = [
        event
        for event in map(parse_text, recorded.text_frames("07c_interrupt_by_id"))
        if isinstance(event, ExecutionInterrupted)
    ]
    assert interrupts == [ExecutionInterrupted("int-07c", "2", "ProbeSlow")]


def test_recorded_previews() -> None:
    with_metadata = [parse_binary(f) for f in recorded.binary_frames("12_preview_frames_flags")]
    first = with_metadata[0]
    assert isinstance(first, PreviewImage)
    assert (first.prompt_id, first.node_id, first.media_type) == ("pv-flags", "2", "image/jpeg")
    assert first.data.startswith(b"\xff\xd8")
    assert with_metadata[-1] == NodeText("2", "héllo")
    plain = parse_binary(recorded.binary_frames("15_saveimage_websocket")[0])
    assert isinstance(plain, PreviewImage)
    assert (plain.prompt_id, plain.media_type) == (None, "image/png")
    assert plain.data.startswith(b"\x89PNG")


def test_a_reconnected_socket_is_told_a_node_without_its_prompt() -> None:
    events = map(parse_text, recorded.text_frames("08b_reconnect_mid_run"))
    assert Executing(None, "2") in list(events)
