"""Progress rises, is dominated by the sampler, and names what is going on."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui import Graph, Phase, Progress
from comfy_worker.comfyui.events import (
    Event,
    Executing,
    ExecutionCached,
    ExecutionStart,
    NodeProgress,
    ProgressState,
    Status,
    StepProgress,
    parse_text,
)
from comfy_worker.comfyui.progress import ProgressTracker
from tests.worker.comfyui import recorded
from tests.worker.comfyui.graphs import LORAS, text_to_image

GRAPH = text_to_image(loras=LORAS)
NODES = st.sampled_from([*GRAPH, "expanded.7"])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2, 300).map(float)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.just(ExecutionStart("p")),
    st.builds(ExecutionCached, st.just("p"), st.lists(NODES).map(tuple)),
    st.builds(Executing, st.just("p"), st.none() | NODES),
    st.builds(StepProgress, st.just("p"), st.none() | NODES, NUMBERS, NUMBERS),
    st.builds(
        ProgressState,
        st.just("p"),
        st.dictionaries(
            NODES,
            st.builds(
                NodeProgress,
                NUMBERS,
                NUMBERS,
                st.sampled_from(["pending", "running", "finished", "error"]),
            ),
        ),
    ),
    st.just(Status(3)),
)


@given(st.lists(EVENTS, max_size=30))
def test_the_fraction_never_falls_and_stays_within_bounds(events: list[Event]) -> None:
    tracker = ProgressTracker(GRAPH)
    before = tracker.current
    for event in events:
        tracker.observe(event)
        after = tracker.current
        assert before.fraction <= after.fraction <= 0.99
        assert 0 <= after.step <= after.steps
        before = after
    assert tracker.complete().fraction == 1.0


def recorded_run(name: str, prompt_id: str) -> tuple[Graph, Iterator[Progress]]:
    """The graph of a recorded run and its progress after each event."""
    graph = next(
        entry["body"]["prompt"]
        for entry in recorded.entries(name)
        if entry["channel"] == "http"
        and entry["direction"] == "request"
        and entry["path"] == "/prompt"
        and entry["body"]["prompt_id"] == prompt_id
    )

    def states() -> Iterator[Progress]:
        tracker = ProgressTracker(graph)
        for frame in recorded.text_frames(name):
            event = parse_text(frame)
            if getattr(event, "prompt_id", None) == prompt_id:
                tracker.observe(event)
                yield tracker.current

    return graph, states()


def test_a_recorded_picture_passes_through_the_phases() -> None:
    _, states = recorded_run("14_txt2img_full", "full-1")
    progress = list(states)
    assert list(dict.fromkeys(state.phase for state in progress)) == [
        Phase.LOADING,
        Phase.SAMPLING,
        Phase.DECODING,
    ]
    steps = [(state.step, state.steps) for state in progress if state.phase is Phase.SAMPLING]
    assert list(dict.fromkeys(steps)) == [(0, 0), (1, 2), (2, 2)]
    assert {state.node_class for state in progress if state.phase is Phase.SAMPLING} == {"KSampler"}
    before_sampling = max(s.fraction for s in progress if s.phase is Phase.LOADING)
    after_sampling = min(s.fraction for s in progress if s.phase is Phase.DECODING)
    assert after_sampling - before_sampling > 0.8
    assert progress[-1].fraction == 0.99


def test_cached_nodes_do_not_count() -> None:
    _, states = recorded_run("14_txt2img_full", "full-2")
    progress = list(states)
    assert progress[1].fraction == 0
    assert progress[-1].fraction == 0.99


def test_a_fully_cached_run_has_no_progress_to_report() -> None:
    tracker = ProgressTracker(GRAPH)
    tracker.observe(ExecutionStart("p"))
    tracker.observe(ExecutionCached("p", tuple(GRAPH)))
    assert tracker.current == Progress(0.0, Phase.LOADING, None, None, 0, 0)


def test_servers_that_send_only_steps_are_followed_too() -> None:
    tracker = ProgressTracker(GRAPH)
    for event in (
        ExecutionStart("p"),
        ExecutionCached("p", ("checkpoint", "lora_1", "lora_2")),
        Executing("p", "sampler"),
        StepProgress(None, None, 14, 28),
    ):
        tracker.observe(event)
    current = tracker.current
    assert (current.phase, current.step, current.steps) == (Phase.SAMPLING, 14, 28)
    assert 0.4 < current.fraction < 0.5


def test_before_the_start_a_prompt_is_queued() -> None:
    tracker = ProgressTracker(GRAPH)
    tracker.observe(Status(2))
    assert tracker.current == Progress(0.0, Phase.QUEUED, None, None, 0, 0)
