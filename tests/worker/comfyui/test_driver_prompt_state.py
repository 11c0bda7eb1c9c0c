"""Queue and history, as recorded, say where a prompt stands."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui.prompt_state import (
    Ending,
    Pending,
    QueueSnapshot,
    Running,
    UnexpectedShapeError,
    history_entry_of,
    queue_of,
    state_in_queue,
)
from tests.worker.comfyui import recorded

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["queue_running", "queue_pending", "p", "status", "messages", "outputs"]
            ),
            inner,
        )
    ),
    max_leaves=30,
)


@given(JSON_VALUES)
def test_any_answer_is_read_or_refused(body: object) -> None:
    for read in (queue_of, lambda body: history_entry_of(body, "p")):
        with suppress(UnexpectedShapeError):
            read(body)


def test_a_recorded_queue() -> None:
    answers = recorded.answers("07a_delete_pending", "/queue")
    queue = queue_of(next(body for status, body in answers if status == 200 and body))
    assert queue == QueueSnapshot(("run-07a",), ("pend2-07a",), queue.client_id)
    assert queue.client_id
    assert state_in_queue(queue, "run-07a") == Running(queue.client_id)
    assert state_in_queue(queue, "pend2-07a") == Pending(ahead=1)
    assert state_in_queue(queue, "pend-07a") is None
    assert "pend2-07a" in queue


def test_the_pending_order_is_by_number_not_as_listed() -> None:
    body = {
        "queue_running": [],
        "queue_pending": [[7, "late", {}, {}, []], [-2, "front", {}, {}, []], [3, "mid", {}]],
    }
    assert queue_of(body).pending == ("front", "mid", "late")


def test_a_recorded_success_has_outputs_and_a_duration() -> None:
    _, body = next(iter(recorded.answers("02_empty_save_flags", "/history/")))
    (prompt_id,) = body
    entry = history_entry_of(body, prompt_id)
    assert entry is not None
    assert entry.ending is Ending.SUCCEEDED
    assert entry.outputs["2"]["images"]
    assert entry.seconds == pytest.approx(0.003)


def test_a_recorded_interrupt_says_error_but_is_none() -> None:
    _, body = next(iter(recorded.answers("07c_interrupt_by_id", "/history/int-07c")))
    assert body["int-07c"]["status"]["status_str"] == "error"
    entry = history_entry_of(body, "int-07c")
    assert entry is not None
    assert entry.ending is Ending.INTERRUPTED
    assert (entry.node_id, entry.node_class) == ("2", "ProbeSlow")


def test_a_recorded_error() -> None:
    _, body = next(iter(recorded.answers("06_execution_error", "/history/")))
    (prompt_id,) = body
    entry = history_entry_of(body, prompt_id)
    assert entry is not None
    assert entry.ending is Ending.FAILED
    assert entry.exception_type == "OSError"
    assert "execution.py" in entry.traceback


def test_no_entry() -> None:
    assert history_entry_of({}, "p") is None
