"""job_service or its database away for twice a lease's lifetime, while five jobs render."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from generation_jobs.v1 import job_pb2
from sqlalchemy import make_url

from comfy_worker.simulator import Simulator
from job_service.client import JobServiceClient
from tests.end_to_end.installation import Installation, rest, submit
from tests.end_to_end.real_processes import until_serving_again
from tests.postgres_line import line_to, over

pytestmark = pytest.mark.heavy

LEASE_TTL = 4.0
#: The renders are the clock: twice a lease's lifetime is this many of their steps.
STEP_SECONDS = 0.8
STEPS_AWAY = round(2 * LEASE_TTL / STEP_SECONDS) + 1
STEPS_BEFORE = 2

Outage = Callable[[], Awaitable[None]]


async def five_renders(
    here: Installation, client: JobServiceClient, *, steps: int
) -> tuple[list[Simulator], list[int]]:
    """Five ComfyUIs of one worker, each a few steps into a job of its own."""
    simulators = [await here.simulator(STEP_SECONDS) for _ in range(5)]
    # Those that have not connected yet when the worker first leases are left their jobs.
    await here.worker("box", *simulators, COMFY_WORKER_DEPTH="1")
    jobs = [await submit(client, steps=steps, labels={"n": str(n)}) for n in range(5)]
    await steps_done(simulators, STEPS_BEFORE)
    return simulators, jobs


async def steps_done(simulators: list[Simulator], steps: int) -> None:
    """Wait until every render has got this far."""
    async with asyncio.timeout(60):
        for simulator in simulators:
            await simulator.signals.wait_until(lambda one=simulator: bool(one.signals.started))  # type: ignore[misc]
            (prompt_id,) = simulator.signals.started
            await simulator.signals.step_reached(prompt_id, steps)


async def assert_nothing_was_lost(
    client: JobServiceClient, simulators: list[Simulator], jobs: list[int]
) -> None:
    done = [await rest(client, job_id) for job_id in jobs]
    assert [job.status for job in done] == [job_pb2.JOB_STATUS_COMPLETED] * 5
    assert [(job.attempts_charged, len(job.artifacts)) for job in done] == [(0, 4)] * 5, done
    for simulator in simulators:
        assert sorted(simulator.signals.rendered.values()) == [1]
        assert simulator.signals.interrupts == 0


@pytest.mark.parametrize("ends_meanwhile", [False, True])
async def test_an_outage_of_job_service_interrupts_no_render_and_costs_no_attempt(
    ends_meanwhile: bool, stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    here = Installation(
        stack,
        tmp_path,
        JOB_SERVICE_LEASE_TTL=str(LEASE_TTL),
        JOB_SERVICE_DATABASE_URL=database_url,
    )
    client = await here.start()
    last = STEPS_BEFORE + STEPS_AWAY
    steps = last if ends_meanwhile else last + 3
    simulators, jobs = await five_renders(here, client, steps=steps)

    await here.service.kill()
    await steps_done(simulators, last)
    here.service.start()
    await until_serving_again(here.address)

    await assert_nothing_was_lost(client, simulators, jobs)


async def test_an_outage_of_the_database_interrupts_no_render_and_costs_no_attempt(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    url = make_url(database_url)
    line = await stack.enter_async_context(line_to(url).open())
    here = Installation(
        stack,
        tmp_path,
        JOB_SERVICE_LEASE_TTL=str(LEASE_TTL),
        JOB_SERVICE_DATABASE_URL=over(line, url),
    )
    client = await here.start()
    last = STEPS_BEFORE + STEPS_AWAY
    simulators, jobs = await five_renders(here, client, steps=last + 3)

    await line.cut()
    await steps_done(simulators, last)
    await line.mend()

    await assert_nothing_was_lost(client, simulators, jobs)
