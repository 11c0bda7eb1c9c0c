"""A worker that job_service cannot hear goes on rendering, and stops once it is told to."""

import asyncio
from datetime import timedelta

import pytest
import structlog

from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service.client import JobServiceClient
from job_service.settings import Settings
from tests.worker.worker.asking import SECONDS, completed, picture, until
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.tcp_proxy import TcpProxy


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"lease_ttl": timedelta(seconds=2)})


@pytest.mark.heavy
async def test_a_job_given_to_another_worker_meanwhile_is_dropped_and_its_prompt_stopped(
    service: str, jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    async with TcpProxy(service).serving() as network:
        start_worker(name="far", job_service=network.address)
        hold = simulator.faults.hold(step=2)
        asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            lost_prompt = await hold.reached()
        network.cut()
        async with Simulator(SimulatorSettings(step_seconds=0.002, load_seconds=0.0)) as other:
            start_worker(name="near", comfyui_urls=other.url)
            done = await completed(jobs, asked.id)
            assert (done.worker, done.attempt) == ("near", 2)
            assert simulator.signals.interrupts == 0
            network.mend()
            async with asyncio.timeout(SECONDS):
                await simulator.signals.interrupt_received()
                hold.release()
                await simulator.signals.prompt_ended(lost_prompt)
            assert simulator.signals.completed[lost_prompt] == 0
    assert len((await jobs.get_job(asked.id)).artifacts) == 4


async def test_a_result_is_kept_until_job_service_hears_again(
    service: str, jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    async with TcpProxy(service).serving() as network:
        start_worker(job_service=network.address)
        hold = simulator.faults.hold()
        asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            prompt_id = await hold.reached()
            network.cut()
            hold.release()
            await simulator.signals.prompt_ended(prompt_id)
        network.mend()
        done = await completed(jobs, asked.id)
        assert done.comfyui_prompt_id == prompt_id
        assert simulator.signals.rendered[prompt_id] == 1


async def test_a_result_is_dropped_after_its_time(
    service: str,
    jobs: JobServiceClient,
    start_worker: StartWorker,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMFY_WORKER_OUTCOME_HOLD", "0.2")
    async with TcpProxy(service).serving() as network:
        start_worker(job_service=network.address)
        hold = simulator.faults.hold()
        asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            prompt_id = await hold.reached()
            with structlog.testing.capture_logs() as log:
                network.cut()
                hold.release()
                await simulator.signals.prompt_ended(prompt_id)
                dropped = "outcome not taken, dropped"
                while not any(line["event"] == dropped for line in log):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        network.mend()
        # The render is not lost with it: whoever gets the job next adopts it.
        done = await completed(jobs, asked.id)
        assert (done.attempt, done.comfyui_prompt_id) == (2, prompt_id)


async def test_a_job_that_comes_back_to_the_same_worker_is_adopted(
    service: str, jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    async with TcpProxy(service).serving() as network:
        start_worker(job_service=network.address, depth=1)
        hold = simulator.faults.hold()
        asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            prompt_id = await hold.reached()
        network.cut()
        await until(jobs, asked.id, lambda job: job.worker == "" or job.attempts_charged == 1)
        network.mend()
        await until(jobs, asked.id, lambda job: job.attempt == 2)
        hold.release()
        done = await completed(jobs, asked.id)
        assert (done.attempt, done.comfyui_prompt_id) == (2, prompt_id)
        assert simulator.signals.queued == {prompt_id: 1}
