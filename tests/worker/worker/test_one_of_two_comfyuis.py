"""One of two ComfyUIs dies or freezes: the other goes on as if it were alone, and no job fails."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from generation_jobs.v1 import job_pb2

from comfy_worker.comfyui import DriverSettings, Timeouts
from comfy_worker.simulator import Simulator
from job_service.client import JobServiceClient
from tests.conformance.simulator_process import SimulatorProcess
from tests.worker.worker.asking import completed, ended, picture, until
from tests.worker.worker.conftest import StartWorker

JOBS = 20
STEP_SECONDS = 0.05
STEPS = 4
STUCK_STEPS = 30
ENDLESS = 600.0
"""Seconds a step takes on the ComfyUI that is to get stuck: it finishes nothing before."""
IMPATIENT = DriverSettings(
    silence=0.5,
    poll=0.2,
    submit_grace=2.0,
    unreachable_grace=3.0,
    timeouts=Timeouts(read=1.0, submit=1.0, ping=0.5),
)


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path / "doomed", step_seconds=ENDLESS) as running:
        yield running


@pytest.fixture
def moody(tmp_path: Path) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path / "moody") as running:
        yield running


@pytest.fixture
def step_seconds() -> float:
    return STEP_SECONDS


async def seconds_for(jobs: JobServiceClient) -> float:
    """How long this many jobs take from the first creation to the last completion."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    asked = [await jobs.create_job(picture(steps=STEPS)) for _ in range(JOBS)]
    await asyncio.gather(*(completed(jobs, job.id) for job in asked))
    return clock() - begun


async def occupy(jobs: JobServiceClient, good: Simulator, bad: str) -> list[int]:
    """Two long jobs on one ComfyUI, the first of them being rendered, and none on the good one."""
    hold = good.faults.hold()
    asked = [await jobs.create_job(picture(steps=STUCK_STEPS)) for _ in range(4)]
    on_bad = []
    for job in asked:
        placed = await until(jobs, job.id, lambda job: bool(job.comfyui_prompt_id))
        if placed.comfyui_backend == bad:
            on_bad.append(job.id)
        else:
            await jobs.cancel_job(job.id)
    hold.release()
    assert len(on_bad) == 2
    sampling = job_pb2.PROGRESS_PHASE_SAMPLING
    watches = {
        asyncio.create_task(until(jobs, job_id, lambda job: job.progress.phase == sampling)): job_id
        for job_id in on_bad
    }
    rendered, waiting = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
    for watch in waiting:
        watch.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    first = watches[rendered.pop()]
    return [first, *(job_id for job_id in on_bad if job_id != first)]


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_the_other_gets_all_done_and_no_job_fails(
    how: str,
    jobs: JobServiceClient,
    start_worker: StartWorker,
    simulator: Simulator,
    doomed: SimulatorProcess,
) -> None:
    start_worker(IMPATIENT, comfyui_urls=f"good={simulator.url},bad={doomed.url}")
    stuck, waiting = await occupy(jobs, simulator, "box/bad")
    # A slot is free there: until its silence is noticed, it is given a job.
    await jobs.cancel_job(waiting)
    await ended(jobs, waiting)

    (doomed.kill if how == "dead" else doomed.freeze)()
    asked = [await jobs.create_job(picture()) for _ in range(6)]
    for job_id in [stuck, *(job.id for job in asked)]:
        job = await completed(jobs, job_id)
        assert job.comfyui_backend == "box/good"
        assert job.attempts_charged == 0


@pytest.mark.benchmark  # it measures: on a busy machine its ratio says nothing
@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_throughput_stays_that_of_the_other_and_no_job_fails(
    how: str,
    jobs: JobServiceClient,
    start_worker: StartWorker,
    simulator: Simulator,
    doomed: SimulatorProcess,
) -> None:
    alone = start_worker(name="alone")
    usual = await seconds_for(jobs)
    await alone.end()
    start_worker(IMPATIENT, comfyui_urls=f"good={simulator.url},bad={doomed.url}")
    stuck = await occupy(jobs, simulator, "box/bad")

    (doomed.kill if how == "dead" else doomed.freeze)()
    taken = await seconds_for(jobs)

    # Meanwhile the other one also renders what was stuck.
    expected = usual + len(stuck) * STUCK_STEPS * STEP_SECONDS
    assert taken < expected * 1.3, f"{taken:.1f} s instead of {expected:.1f} s"
    for job_id in stuck:
        job = await completed(jobs, job_id)
        assert job.comfyui_backend == "box/good"
        assert job.attempts_charged == 0


async def test_a_frozen_one_is_worked_with_again_once_it_answers(
    jobs: JobServiceClient,
    start_worker: StartWorker,
    simulator: Simulator,
    moody: SimulatorProcess,
) -> None:
    start_worker(IMPATIENT, comfyui_urls=f"bad={moody.url}")
    first = await jobs.create_job(picture())
    await completed(jobs, first.id)
    moody.freeze()
    second = await jobs.create_job(picture())
    await until(
        jobs,
        second.id,
        lambda job: job.status == job_pb2.JOB_STATUS_PENDING and job.attempt == 1,
    )
    moody.thaw()
    job = await completed(jobs, second.id)
    assert job.attempts_charged == 0
