"""Queue order, and how far affinity may bend it."""

import random
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from job_service.queue.assignment import (
    Candidate,
    FreeSlot,
    OvertakingLedger,
    Place,
    assign,
)

CHECKPOINTS = ("a", "b", "c", "d")


def job(number: int, checkpoint: str = "a", *, priority: int = 0, tag: int = 0) -> Candidate:
    return Candidate(priority, Place(tag, number), CHECKPOINTS.index(checkpoint), checkpoint)


def run(
    jobs: Sequence[Candidate], ledger: OvertakingLedger, *, seconds_per_job: float = 0.0
) -> list[Candidate]:
    """Work everything off with one ComfyUI that can run it all, a job at a time."""
    waiting = sorted(jobs, key=lambda one: one.order)
    done: list[Candidate] = []
    loaded = ""
    while waiting:
        slot = FreeSlot("box/gpu", frozenset(range(len(CHECKPOINTS))), loaded)
        ledger.forget_before({one.priority: one.place for one in reversed(waiting)})
        (chosen,) = assign(waiting, [slot], ledger, len(done) * seconds_per_job).values()
        waiting.remove(chosen)
        done.append(chosen)
        loaded = chosen.checkpoint
    return done


def switches(done: Sequence[Candidate]) -> int:
    return sum(before.checkpoint != after.checkpoint for before, after in pairwise(done))


def test_priority_goes_before_the_tag_and_the_tag_before_the_id() -> None:
    jobs = [job(1, tag=5), job(2, tag=4), job(3, tag=9, priority=1), job(4, tag=4)]
    assert [one.place.job_id for one in run(jobs, OvertakingLedger())] == [3, 2, 4, 1]


def test_four_checkpoints_in_random_order_cost_at_least_five_times_fewer_switches() -> None:
    draw = random.Random(7)
    jobs = [job(number, draw.choice(CHECKPOINTS)) for number in range(1000)]
    assert switches(jobs) >= 5 * switches(run(jobs, OvertakingLedger()))


jobs_in_any_order = st.lists(
    st.tuples(st.sampled_from(CHECKPOINTS), st.integers(0, 1), st.integers(0, 20)), max_size=80
)


@given(jobs_in_any_order, st.integers(0, 6), st.integers(1, 40))
def test_no_job_is_overtaken_more_often_or_longer_than_the_bound(
    drawn: list[tuple[str, int, int]], most: int, longest: int
) -> None:
    jobs = [
        job(number, checkpoint, priority=priority, tag=tag)
        for number, (checkpoint, priority, tag) in enumerate(drawn)
    ]
    done = run(jobs, OvertakingLedger(most=most, longest=longest), seconds_per_job=1.0)
    assert sorted(jobs, key=lambda one: one.order) == sorted(done, key=lambda one: one.order)
    for turn, one in enumerate(done):
        overtook = [at for at, other in enumerate(done[:turn]) if other.order > one.order]
        assert all(done[at].priority == one.priority for at in overtook)
        assert len(overtook) <= most
        assert not overtook or max(overtook) - min(overtook) < longest


@given(jobs_in_any_order)
def test_without_affinity_the_order_is_strict(drawn: list[tuple[str, int, int]]) -> None:
    jobs = [
        job(number, checkpoint, priority=priority, tag=tag)
        for number, (checkpoint, priority, tag) in enumerate(drawn)
    ]
    done = run(jobs, OvertakingLedger(most=0))
    assert done == sorted(jobs, key=lambda one: one.order)


def test_a_job_to_be_adopted_goes_to_its_comfyui_alone_and_first() -> None:
    adopted = Candidate(-5, Place(9, 9), 0, "a", adopter="box/gpu")
    everything = frozenset(range(4))
    slots = [FreeSlot("other/gpu", everything, ""), FreeSlot("box/gpu", everything, "")]
    assert assign([job(1), adopted], slots, OvertakingLedger(), 0.0) == {0: job(1), 1: adopted}
    assert assign([adopted], slots[:1], OvertakingLedger(), 0.0) == {}


def test_a_slot_gets_only_what_its_comfyui_can_run() -> None:
    slots = [FreeSlot("box/gpu", frozenset({1}), "")]
    assert assign([job(1, "a"), job(2, "b")], slots, OvertakingLedger(), 0.0) == {0: job(2, "b")}


def test_the_second_slot_of_a_comfyui_counts_on_the_checkpoint_of_the_first() -> None:
    slots = [FreeSlot("box/gpu", frozenset(range(4)), "")] * 2
    jobs = [job(1, "a"), job(2, "b"), job(3, "a")]
    assigned = assign(jobs, slots, OvertakingLedger(), 0.0)
    assert [one.place.job_id for one in assigned.values()] == [1, 3]


def test_a_job_goes_to_the_comfyui_that_has_its_checkpoint_though_another_is_free_longer() -> None:
    slots = [everything("cold", "a"), everything("warm", "b"), everything("warm too", "b")]
    assert assign([job(1, "b")], slots, OvertakingLedger(), 0.0) == {1: job(1, "b")}
    both = assign([job(1, "b"), job(2, "c")], slots, OvertakingLedger(), 0.0)
    assert both == {1: job(1, "b"), 0: job(2, "c")}


def test_a_job_does_not_wait_behind_another_for_its_checkpoint() -> None:
    slots = [everything("idle", "a"), everything("busy", "b", ahead=1)]
    assert assign([job(1, "b")], slots, OvertakingLedger(), 0.0) == {0: job(1, "b")}


def test_a_comfyui_with_a_job_to_adopt_is_not_given_another_instead() -> None:
    adopted = Candidate(0, Place(9, 9), 0, "a", adopter="warm")
    slots = [everything("cold", ""), everything("warm", "b")]
    assigned = assign([job(1, "b"), adopted], slots, OvertakingLedger(), 0.0)
    assert assigned == {0: job(1, "b"), 1: adopted}


@given(
    st.lists(st.sampled_from(CHECKPOINTS), max_size=8),
    st.lists(st.sampled_from(["", *CHECKPOINTS]), max_size=8),
)
def test_of_idle_comfyuis_none_loads_what_another_has_ready(
    wanted: list[str], loaded: list[str]
) -> None:
    jobs = [job(number, checkpoint) for number, checkpoint in enumerate(wanted)]
    slots = [everything(f"box{number}", each) for number, each in enumerate(loaded)]
    assigned = assign(jobs, slots, OvertakingLedger(most=0), 0.0)
    assert len(assigned) == min(len(jobs), len(slots))
    unused = [slot.loaded_checkpoint for at, slot in enumerate(slots) if at not in assigned]
    cold = [one.checkpoint for at, one in assigned.items() if one.checkpoint != loaded[at]]
    assert not set(cold) & set(unused)
    # Nobody was overtaken for it.
    assert (
        sorted(one.place for one in assigned.values())
        == [one.place for one in jobs][: len(assigned)]
    )


def everything(backend: str, loaded: str, ahead: int = 0) -> FreeSlot:
    return FreeSlot(backend, frozenset(range(len(CHECKPOINTS))), loaded, ahead)
