"""An outage is one story in the worker's log, not one for each loop and job that meets it."""

import asyncio
from collections.abc import Iterator

import pytest
import structlog

from comfy_worker.comfyui import DriverSettings, Timeouts
from comfy_worker.simulator import Simulator
from job_service.client import JobServiceClient
from tests.worker.worker.asking import SECONDS, completed, picture
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.tcp_proxy import TcpProxy


@pytest.fixture
def log() -> Iterator[list[structlog.typing.EventDict]]:
    """Every line of the test's process, the worker's among them."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def events(log: list[structlog.typing.EventDict], word: str) -> list[str]:
    """What was said of ``word``, but for reminders, which come on a slow machine only."""
    return [
        line["event"] for line in log if word in line["event"] and " still " not in line["event"]
    ]


async def until_said(
    log: list[structlog.typing.EventDict], event: str, seconds: float = SECONDS
) -> None:
    async with asyncio.timeout(seconds):
        while not any(line["event"] == event for line in log):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_job_service_that_is_away_is_told_of_once_and_so_is_its_return(
    service: str,
    jobs: JobServiceClient,
    start_worker: StartWorker,
    simulator: Simulator,
    log: list[structlog.typing.EventDict],
) -> None:
    async with TcpProxy(service).serving() as network:
        start_worker(job_service=network.address)
        hold = simulator.faults.hold()
        asked = [await jobs.create_job(picture()) for _ in range(2)]
        async with asyncio.timeout(SECONDS):
            prompt_id = await hold.reached()
            log.clear()
            network.cut()
            hold.release()
            await simulator.signals.prompt_ended(prompt_id)
            # By then the heartbeat, the progress and the results of both have been tried often.
            while network.refused < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert events(log, "job_service") == ["job_service does not serve, asking until it does"]
        network.mend()
        for job in asked:
            await completed(jobs, job.id)
        await until_said(log, "job_service serves again")
        assert events(log, "job_service") == [
            "job_service does not serve, asking until it does",
            "job_service serves again",
        ]


async def test_an_idle_worker_notices_the_return_before_a_held_call_would_be_answered(
    service: str, start_worker: StartWorker, log: list[structlog.typing.EventDict]
) -> None:
    async with TcpProxy(service).serving() as network:
        start_worker(job_service=network.address)
        await until_said(log, "registered with job_service")
        network.cut()
        await until_said(log, "job_service does not serve, asking until it does")
        network.mend()
        await until_said(log, "job_service serves again", seconds=9)


async def test_a_worker_that_is_started_before_job_service_says_so_and_waits(
    service: str, start_worker: StartWorker, log: list[structlog.typing.EventDict]
) -> None:
    async with TcpProxy(service).serving() as network:
        network.cut()
        start_worker(job_service=network.address)
        await until_said(log, "job_service does not serve, asking until it does")
        network.mend()
        await until_said(log, "registered with job_service")


async def test_a_comfyui_that_is_away_is_told_of_once_and_so_is_its_return(
    jobs: JobServiceClient,
    start_worker: StartWorker,
    simulator: Simulator,
    log: list[structlog.typing.EventDict],
) -> None:
    start_worker(comfyui_urls=f"gpu={simulator.url}")
    await until_said(log, "comfyui offered")
    await simulator.kill()
    await until_said(log, "waiting for comfyui")
    await simulator.restart()
    await until_said(log, "comfyui is connected")
    await completed(jobs, (await jobs.create_job(picture())).id)
    assert events(log, "connected") == [
        "comfyui is not connected, trying until it is",
        "comfyui is connected",
    ]


async def test_a_comfyui_that_freezes_is_told_of_once_and_so_is_its_return(
    start_worker: StartWorker, simulator: Simulator, log: list[structlog.typing.EventDict]
) -> None:
    impatient = DriverSettings(timeouts=Timeouts(read=0.2, catalogue=0.2, ping=0.2))
    start_worker(impatient, comfyui_urls=f"gpu={simulator.url}", catalogue_interval=0.1)
    await until_said(log, "comfyui offered")
    simulator.faults.freeze()
    await until_said(log, "comfyui does not answer, it gets no prompts until it does")
    await until_said(log, "catalogue cannot be read, trying until it can")
    simulator.faults.thaw()
    await until_said(log, "comfyui answers again")
    assert events(log, "answer") == [
        "comfyui does not answer, it gets no prompts until it does",
        "comfyui answers again",
    ]
