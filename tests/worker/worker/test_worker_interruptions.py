"""Drains, takeovers, outages and restarts: no render is wasted, no job is lost."""

import asyncio
from pathlib import Path

import pytest
from generation_jobs.v1 import job_error_pb2, job_pb2

from comfy_worker.cannot_run import CannotRunError
from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service import server
from job_service.client import JobServiceClient
from job_service.settings import Settings as ServiceSettings
from tests.worker.worker.asking import SECONDS, completed, picture, until
from tests.worker.worker.conftest import StartWorker


async def test_a_drained_worker_finishes_what_it_has_and_takes_nothing_more(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold()
    worker = start_worker(depth=1)
    first = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    worker.drain()
    second = await jobs.create_job(picture())
    hold.release()
    await completed(jobs, first.id)
    async with asyncio.timeout(SECONDS):
        await worker.task
    assert (await jobs.get_job(second.id)).status == job_pb2.JOB_STATUS_PENDING


async def test_what_is_not_done_within_the_grace_period_is_given_back_and_adopted(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold()
    worker = start_worker(grace=0)
    running = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        prompt_id = await hold.reached()
    waiting = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await simulator.signals.wait_until(lambda: len(simulator.signals.queued) == 2)
        queued = next(queued for queued in simulator.signals.queued if queued != prompt_id)
        worker.drain()
        await worker.task
    for job_id in (running.id, waiting.id):
        given_back = await jobs.get_job(job_id)
        assert given_back.status == job_pb2.JOB_STATUS_PENDING
        assert given_back.attempts_charged == 0
    start_worker()
    hold.release()
    done = await completed(jobs, running.id)
    assert (done.comfyui_prompt_id, done.attempt) == (prompt_id, 2)
    await completed(jobs, waiting.id)
    assert simulator.signals.queued[prompt_id] == 1
    assert simulator.signals.started[queued] == 0


async def test_a_successor_takes_over_at_once_and_adopts_the_render(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold()
    first = start_worker()
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        prompt_id = await hold.reached()
        start_worker()
        with pytest.raises(CannotRunError, match="COMFY_WORKER_NAME"):
            await first.task
    await until(jobs, asked.id, lambda job: job.attempt == 2)
    hold.release()
    done = await completed(jobs, asked.id)
    assert done.comfyui_prompt_id == prompt_id
    assert simulator.signals.rendered[prompt_id] == 1
    assert len(simulator.signals.queued) == 1


async def test_a_render_that_ended_while_no_worker_was_there_is_adopted(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold()
    first = start_worker()
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        prompt_id = await hold.reached()
        await first.kill()
        hold.release()
        await simulator.signals.prompt_ended(prompt_id)
    start_worker()
    done = await completed(jobs, asked.id)
    assert done.comfyui_prompt_id == prompt_id
    assert len(simulator.signals.queued) == 1


async def test_an_adopted_render_whose_files_are_gone_is_rendered_again(
    jobs: JobServiceClient, start_worker: StartWorker, tmp_path: Path
) -> None:
    settings = SimulatorSettings(
        step_seconds=0.002, load_seconds=0.0, output_directory=tmp_path / "output"
    )
    async with Simulator(settings) as simulator:
        hold = simulator.faults.hold()
        first = start_worker(comfyui_urls=f"gpu={simulator.url}")
        asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            prompt_id = await hold.reached()
            await first.kill()
            hold.release()
            await simulator.signals.prompt_ended(prompt_id)
        for path in (tmp_path / "output").rglob("*.png"):
            path.unlink()
        start_worker(comfyui_urls=f"gpu={simulator.url}")
        done = await completed(jobs, asked.id)
        assert done.comfyui_prompt_id != prompt_id
        assert len(done.artifacts) == 4


async def test_an_outage_of_job_service_interrupts_no_render(
    service_settings: ServiceSettings, simulator: Simulator, start_worker: StartWorker
) -> None:
    hold = simulator.faults.hold()
    async with server.running(service_settings) as address:
        worker = start_worker(job_service=address)
        async with JobServiceClient(address) as jobs:
            asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            prompt_id = await hold.reached()
    hold.release()
    async with asyncio.timeout(SECONDS):
        await simulator.signals.prompt_ended(prompt_id)
    again = service_settings.model_copy(update={"listen": address})
    async with server.running(again), JobServiceClient(address) as jobs:
        done = await completed(jobs, asked.id)
        await worker.end()
    assert (done.attempt, done.comfyui_prompt_id) == (1, prompt_id)
    assert simulator.signals.rendered[prompt_id] == 1


async def test_a_restart_of_comfyui_costs_an_attempt_that_is_not_charged(
    jobs: JobServiceClient, start_worker: StartWorker
) -> None:
    async with Simulator(SimulatorSettings()) as first:
        hold = first.faults.hold()
        start_worker(comfyui_urls=f"gpu={first.url}")
        asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            await hold.reached()
    settings = SimulatorSettings(port=first.port, step_seconds=0.002, load_seconds=0.0)
    async with Simulator(settings):
        done = await completed(jobs, asked.id)
    assert done.attempt == 2
    assert done.attempts_charged == 0
    assert done.attempts[0].error.code == job_error_pb2.ERROR_CODE_COMFYUI_RESTARTED


async def test_a_comfyui_that_comes_later_is_worked_with(
    jobs: JobServiceClient, start_worker: StartWorker
) -> None:
    async with Simulator(SimulatorSettings()) as early:
        pass
    start_worker(comfyui_urls=f"gpu={early.url}")
    asked = await jobs.create_job(picture())
    settings = SimulatorSettings(port=early.port, step_seconds=0.002, load_seconds=0.0)
    async with Simulator(settings):
        await completed(jobs, asked.id)
