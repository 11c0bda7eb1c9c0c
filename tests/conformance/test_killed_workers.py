"""kill -9 of a worker at random points of a job on a genuine ComfyUI: one picture, one render."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from generation_jobs.v1 import job_pb2

from job_service.client import JobServiceClient
from tests.conformance.genuine import CHECKPOINT, GenuineServer
from tests.end_to_end.installation import Installation, rest
from tests.end_to_end.real_processes import RealProcess

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]

KILLS = 20
SECONDS = 60
STEPS = 6
POINTS = random.Random(20)


@dataclass(frozen=True)
class House:
    """job_service, one worker, and the genuine ComfyUI it drives."""

    client: JobServiceClient
    worker: RealProcess
    comfyui: GenuineServer

    async def job(self, prompt: str, *, steps: int = STEPS) -> int:
        job = job_pb2.GenerationJob(
            prompt=prompt,
            checkpoint_model=CHECKPOINT,
            width=64,
            height=64,
            sampler=job_pb2.Sampler(steps=steps),
        )
        return (await self.client.create_job(job)).id

    async def renders(self, prompt: str) -> list[str]:
        """How each prompt with this text ended, as ComfyUI's history has it."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.comfyui.url}/history") as response,
        ):
            history: dict[str, Any] = await response.json()
        return [
            entry["status"]["status_str"]
            for entry in history.values()
            for node in entry["prompt"][2].values()
            if node["inputs"].get("text") == prompt
        ]

    def queued(self) -> int:
        """How many prompts ComfyUI has taken since its start, by its own log."""
        return self.comfyui.log.read_text().count("got prompt")

    async def until(self, job_id: int, condition: Any) -> None:
        async for event in self.client.watch(job_id):
            if condition(event.job):
                return
        raise AssertionError(f"job {job_id} came to rest before")


@pytest.fixture
async def house(
    genuine_server: GenuineServer, tmp_path: Path, database_url: str
) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        # A lease outlasts the test: only the successor's takeover frees a job.
        here = Installation(
            stack, tmp_path, JOB_SERVICE_LEASE_TTL="600", JOB_SERVICE_DATABASE_URL=database_url
        )
        client = await here.start()
        worker = await stack.enter_async_context(
            RealProcess(
                ["comfy-worker", "run"],
                tmp_path / "worker.log",
                COMFY_WORKER_JOB_SERVICE=here.address,
                COMFY_WORKER_NAME="box",
                COMFY_WORKER_COMFYUI_URLS=f"gpu={genuine_server.url}",
                COMFY_WORKER_GRACE="1",
            )
        )
        yield House(client, worker, genuine_server)


async def test_whenever_the_worker_is_killed_the_job_completes_and_is_rendered_once(
    house: House,
) -> None:
    loop = asyncio.get_running_loop()
    assert (await rest(house.client, await house.job("warm-up"))).attempt == 1
    begun = loop.time()
    assert (await rest(house.client, await house.job("undisturbed"))).attempt == 1
    usual_seconds = loop.time() - begun
    queued_before = house.queued()
    tries, kills = 0, 0

    while kills < KILLS:
        tries += 1
        assert tries <= 3 * KILLS, f"only {kills} kills came before the job was done"
        prompt = f"a lighthouse, killed {tries}"
        job_id = await house.job(prompt)
        # Not waiting for anything: this is the random point of the job's life.
        await asyncio.sleep(POINTS.uniform(0, usual_seconds))
        await house.worker.kill()
        killed_in = await house.client.get_job(job_id)
        house.worker.start()

        job = await rest(house.client, job_id)

        assert job.status == job_pb2.JOB_STATUS_COMPLETED, job
        assert len(job.artifacts) == 4
        assert await house.renders(prompt) == ["success"]
        kills += killed_in.status != job_pb2.JOB_STATUS_COMPLETED

    assert house.queued() - queued_before == tries


async def test_what_was_interrupted_while_no_worker_was_there_is_rendered_anew(
    house: House,
) -> None:
    prompt = "a lighthouse, interrupted"
    async with asyncio.timeout(SECONDS):
        job_id = await house.job(prompt, steps=40)
        await house.until(job_id, lambda job: job.progress.step >= 2)
        interrupted = (await house.client.get_job(job_id)).comfyui_prompt_id
        await house.worker.kill()
        async with aiohttp.ClientSession() as http:
            await http.post(f"{house.comfyui.url}/interrupt", json={"prompt_id": interrupted})
        house.worker.start()

    job = await rest(house.client, job_id)

    assert job.status == job_pb2.JOB_STATUS_COMPLETED
    assert job.comfyui_prompt_id != interrupted
    assert sorted(await house.renders(prompt)) == ["error", "success"]
