"""How long a run still takes: told by its like, then by its own steps, and absent when unknown."""

import asyncio

import pytest
from generation_jobs.v1 import job_pb2
from generation_jobs.v1.job_pb2 import GenerationJob
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui import Phase, Progress
from comfy_worker.simulator import Simulator
from comfy_worker.worker.remaining_time import RemainingTime
from comfy_worker.worker.run_times import RunTimes, kind_of
from job_service.client import JobServiceClient
from tests.worker.comfyui.graphs import text_to_image
from tests.worker.worker.asking import SECONDS, completed, picture, until
from tests.worker.worker.conftest import StartWorker


def at(fraction: float, step: int) -> Progress:
    return Progress(fraction, Phase.SAMPLING, "sampler", "KSampler", step, 10)


def test_nothing_is_told_before_the_start_nor_without_steps_or_history() -> None:
    remaining = RemainingTime(None)
    assert remaining.at(0.0) is None
    remaining.start(0.0)
    remaining.observe(1.0, Progress(0.05, Phase.LOADING, "checkpoint", "Loader", 0, 0))
    remaining.observe(2.0, at(0.1, 1))
    assert remaining.at(2.0) is None
    remaining.observe(3.0, at(0.2, 2))
    assert remaining.at(3.0) == pytest.approx(8.0)
    assert remaining.at(5.0) == pytest.approx(6.0)


def test_loading_does_not_spoil_the_pace_of_the_steps() -> None:
    remaining = RemainingTime(None)
    remaining.start(0.0)
    for step in range(1, 6):
        remaining.observe(60.0 + step, at(step / 10, step))
    assert remaining.at(65.0) == pytest.approx(5.0)


def test_history_tells_from_the_start_and_the_pace_has_the_last_word() -> None:
    remaining = RemainingTime(20.0)
    assert remaining.at(0.0) is None
    remaining.start(100.0)
    assert remaining.at(100.0) == pytest.approx(20.0)
    for step in range(1, 10):
        remaining.observe(100.0 + step, at(step / 10, step))
    told = remaining.at(109.0)
    assert told == pytest.approx(0.1 * 11.0 + 0.9 * 1.0)
    # Longer than the others took: only the pace counts.
    assert remaining.at(130.0) == 0.0
    remaining.start(130.0)
    assert remaining.at(131.0) == pytest.approx(19.0)
    assert remaining.at(151.0) is None


@given(st.none() | st.floats(0, 1e9), st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1))))
def test_it_is_never_negative_whatever_comes(
    expected: float | None, seen: list[tuple[float, float]]
) -> None:
    remaining = RemainingTime(expected)
    now = 0.0
    remaining.start(now)
    highest = 0.0
    for step, (pause, fraction) in enumerate(seen):
        now += pause
        highest = max(highest, fraction)
        remaining.observe(now, at(highest, step))
        told = remaining.at(now)
        assert told is None or told >= 0.0


def test_runs_of_one_kind_share_size_steps_and_models_but_no_text() -> None:
    usual = {"width": 64, "height": 96, "steps": 4, "seed": 1, "checkpoint": "a.safetensors"}
    kind = kind_of("gpu", text_to_image(**usual))
    assert kind == kind_of("gpu", text_to_image(**usual | {"seed": 2}, prompt="another"))
    for change in ({"width": 128}, {"steps": 5}, {"checkpoint": "b.safetensors"}):
        assert kind != kind_of("gpu", text_to_image(**usual | change))
    assert kind != kind_of("another", text_to_image(**usual))


def test_the_last_few_runs_count_and_one_odd_one_does_not() -> None:
    times = RunTimes()
    kind = kind_of("gpu", text_to_image())
    assert times.expected(kind) is None
    for seconds in (90.0, 3.0, 4.0, 5.0, 60.0, 4.5):
        times.note(kind, seconds)
    assert times.expected(kind) == 4.5


def test_only_so_many_kinds_are_remembered() -> None:
    times = RunTimes()
    for number in range(5000):
        times.note(("gpu", number), 1.0)
        times.note(("gpu", "often"), 2.0)
    assert times.expected(("gpu", 0)) is None
    assert times.expected(("gpu", 4999)) == 1.0
    assert times.expected(("gpu", "often")) == 2.0


@pytest.mark.parametrize("step_seconds", [0.01])  # a run takes longer than its first report
async def test_the_second_job_of_a_kind_is_told_an_end_from_its_start(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    start_worker()

    async def first_told(job: GenerationJob) -> GenerationJob:
        """What is told while the first step has not been done."""
        hold = simulator.faults.hold(step=1)
        asked = await jobs.create_job(job)
        async with asyncio.timeout(SECONDS):
            await hold.reached()
        seen = await until(
            jobs, asked.id, lambda job: job.progress.phase == job_pb2.PROGRESS_PHASE_SAMPLING
        )
        hold.release()
        await completed(jobs, asked.id)
        return seen

    first = await first_told(picture(steps=100))
    assert not first.progress.HasField("remaining")
    second = await first_told(picture(steps=100, prompt="a hare"))
    assert second.progress.HasField("remaining")
    assert second.progress.remaining.ToTimedelta().total_seconds() < SECONDS
    other = await first_told(picture(steps=4))
    assert not other.progress.HasField("remaining")


async def test_the_pace_of_its_steps_tells_the_end_of_the_first_job_of_a_kind(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold(step=8)
    start_worker()
    asked = await jobs.create_job(picture(steps=10))
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    job = await until(jobs, asked.id, lambda job: job.progress.step == 7)
    assert job.progress.HasField("remaining")
    hold.release()
    await completed(jobs, asked.id)
