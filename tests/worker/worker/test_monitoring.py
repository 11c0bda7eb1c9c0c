"""What a worker's /metrics, /livez and /readyz say while it works, waits and ends."""

import asyncio
from collections.abc import Callable

import pytest
from generation_jobs.v1 import job_pb2

from comfy_worker.cannot_run import CannotRunError
from comfy_worker.monitoring.counted import MOST_CHECKPOINTS, OTHERS, Counted
from comfy_worker.monitoring.state import LONGEST_SILENCE, BackendState, WorkerState, problems
from comfy_worker.simulator import Simulator
from job_service.client import JobServiceClient
from tests.end_to_end.real_processes import free_address
from tests.metrics_protocol import Scraped, get, scrape
from tests.worker.worker.asking import SECONDS, completed, ended, picture
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.lease_editor import LeaseEditor


@pytest.fixture
def metrics() -> str:
    """Where the worker's metrics are to be."""
    return free_address()


async def until_ready(address: str, *, ready: bool = True) -> str:
    """Ask /readyz until it answers so; its text."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                status, text = await get(address, "/readyz")
            except OSError:  # it does not listen yet
                status, text = 0, ""
            if status == (200 if ready else 503):
                return text
            await asyncio.sleep(0.05)


async def until_scraped(address: str, fulfilled: Callable[[Scraped], bool]) -> Scraped:
    async with asyncio.timeout(SECONDS):
        while True:
            seen = await scrape(address)
            if fulfilled(seen):
                return seen
            await asyncio.sleep(0.05)


async def test_slots_jobs_and_how_they_ended(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator, metrics: str
) -> None:
    hold = simulator.faults.hold(step=2)
    start_worker(metrics_listen=metrics, comfyui_urls=f"gpu={simulator.url}", depth=2)
    await until_ready(metrics)
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    seen = await until_scraped(
        metrics, lambda seen: seen("comfy_worker_jobs", backend="gpu", stage="rendering") == 1
    )
    assert seen("comfy_worker_slots", backend="gpu") == 2
    assert seen("comfy_worker_comfyui_up", backend="gpu") == 1
    assert seen("comfy_worker_ready") == 1
    hold.release()
    await completed(jobs, asked.id)
    simulator.faults.fail_node("KSampler")
    failed = await ended(jobs, (await jobs.create_job(picture(max_attempts=1))).id)
    assert failed.status == job_pb2.JOB_STATUS_FAILED

    name = "comfy_worker_jobs_ended_total"
    seen = await until_scraped(metrics, lambda seen: seen.total(name) == 2)
    assert seen(name, backend="gpu", outcome="completed", error_code="") == 1
    assert seen(name, backend="gpu", outcome="failed", error_code="NODE_FAILED") == 1
    count = "comfy_worker_run_duration_seconds_count"
    assert seen(count, backend="gpu", checkpoint=asked.checkpoint_model) == 1
    polled = seen("comfy_worker_last_poll_timestamp_seconds")
    assert polled is not None
    assert polled > 1_700_000_000


async def test_a_job_whose_lease_ends_by_its_completion_is_not_lost(
    jobs: JobServiceClient,
    start_worker: StartWorker,
    simulator: Simulator,
    leases: LeaseEditor,
    metrics: str,
) -> None:
    leases.answers_completions_late = True
    hold = simulator.faults.hold(step=2)
    start_worker(
        metrics_listen=metrics, job_service=leases.address, comfyui_urls=f"gpu={simulator.url}"
    )
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await leases.reporting.wait()
    hold.release()
    await completed(jobs, asked.id)

    name = "comfy_worker_jobs_ended_total"
    seen = await until_scraped(metrics, lambda seen: seen.total(name) > 0)
    assert seen.total(name) == seen(name, backend="gpu", outcome="completed", error_code="") == 1


async def test_not_ready_while_no_comfyui_answers(
    start_worker: StartWorker, simulator: Simulator, metrics: str
) -> None:
    start_worker(metrics_listen=metrics, comfyui_urls=f"gpu={simulator.url}")
    await until_ready(metrics)
    await simulator.kill()
    assert await until_ready(metrics, ready=False) == "ComfyUI: none of gpu can be given prompts\n"
    assert await get(metrics, "/livez") == (200, "ok\n")
    seen = await scrape(metrics)
    assert seen("comfy_worker_comfyui_up", backend="gpu") == 0
    assert seen("comfy_worker_ready") == 0
    await simulator.restart()
    await until_ready(metrics)


async def test_not_ready_before_job_service_has_answered(
    start_worker: StartWorker, metrics: str
) -> None:
    start_worker(metrics_listen=metrics, job_service="127.0.0.1:1")
    assert "job_service: has not answered yet\n" in await until_ready(metrics, ready=False)
    assert await get(metrics, "/livez") == (200, "ok\n")


async def test_a_draining_worker_is_alive_and_not_ready(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator, metrics: str
) -> None:
    hold = simulator.faults.hold()
    worker = start_worker(metrics_listen=metrics, grace=3600)
    await until_ready(metrics)
    await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    worker.drain()
    assert (await until_ready(metrics, ready=False)).startswith("draining: ")
    assert await get(metrics, "/livez") == (200, "ok\n")


async def test_an_address_that_is_taken_is_one_clear_line(
    start_worker: StartWorker, metrics: str
) -> None:
    async with await asyncio.start_server(lambda *_: None, *metrics.split(":")):
        worker = start_worker(metrics_listen=metrics)
        with pytest.raises(CannotRunError, match=f"cannot listen on {metrics} for metrics") as why:
            await worker.task
    assert "\n" not in str(why.value)


GPU = BackendState("gpu", available=True, offered=True, slots=2, rendering=0, storing=0)


@pytest.mark.parametrize(
    ("silence", "draining", "backends", "expected"),
    [
        (1.0, False, [GPU], ""),
        (LONGEST_SILENCE + 1, False, [GPU], "job_service: no answer for 31 seconds"),
        (None, False, [GPU], "job_service: has not answered yet"),
        (1.0, True, [GPU], "draining: the process has been told to stop"),
        (
            1.0,
            False,
            [BackendState("b", available=True, offered=False, slots=2, rendering=0, storing=0)],
            "ComfyUI: none of b can be given prompts",
        ),
        (
            1.0,
            False,
            [BackendState("b", available=False, offered=True, slots=2, rendering=0, storing=0)],
            "ComfyUI: none of b can be given prompts",
        ),
    ],
)
def test_what_is_in_the_way(
    silence: float | None, *, draining: bool, backends: list[BackendState], expected: str
) -> None:
    state = WorkerState(silence, None, draining, backends)
    assert "; ".join(problems(state)) == expected


def test_checkpoints_beyond_the_first_share_a_series() -> None:
    counted = Counted()
    for n in range(2 * MOST_CHECKPOINTS):
        counted.rendered("gpu", f"model {n}", 1.0)
    (family,) = (
        one for one in counted.registry.collect() if one.name == "comfy_worker_run_duration_seconds"
    )
    counts = {
        sample.labels["checkpoint"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_count")
    }
    assert len(counts) == MOST_CHECKPOINTS + 1
    assert counts[OTHERS] == MOST_CHECKPOINTS
