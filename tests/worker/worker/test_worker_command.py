"""``comfy-worker`` as an operator runs it: a process, its signals, its exit codes."""

import asyncio
import json
import os
import signal
import sysconfig
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from generation_jobs.v1 import job_pb2

from comfy_worker.simulator import Simulator
from job_service.client import JobServiceClient
from tests.worker.worker.asking import SECONDS, completed, ended, picture

Run = Callable[..., Awaitable[Process]]


@pytest.fixture
async def command(service: str, simulator: Simulator) -> AsyncIterator[Run]:
    """Starts ``comfy-worker``; keyword arguments are environment variables."""
    started: list[Process] = []

    async def run(*arguments: str, **environment: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            Path(sysconfig.get_path("scripts"), "comfy-worker"),
            *arguments,
            stdout=PIPE,
            stderr=STDOUT,
            env=os.environ
            | {
                "COMFY_WORKER_JOB_SERVICE": service,
                "COMFY_WORKER_COMFYUI_URLS": simulator.url,
                "COMFY_WORKER_NAME": "box",
            }
            | environment,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output_of(process: Process) -> str:
    async with asyncio.timeout(SECONDS):
        output, _ = await process.communicate()
    return output.decode()


async def test_sigterm_finishes_what_runs(
    command: Run, jobs: JobServiceClient, simulator: Simulator
) -> None:
    hold = simulator.faults.hold()
    process = await command("run")
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    process.send_signal(signal.SIGTERM)
    hold.release()
    await completed(jobs, asked.id)
    assert "Traceback" not in await output_of(process)
    assert process.returncode == 0


async def test_a_second_signal_gives_the_jobs_back_at_once(
    command: Run, jobs: JobServiceClient, simulator: Simulator
) -> None:
    hold = simulator.faults.hold()
    process = await command("run", COMFY_WORKER_GRACE="3600")
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(SECONDS):
        while b"draining" not in await process.stdout.readline():
            pass
    process.send_signal(signal.SIGTERM)
    await output_of(process)
    assert process.returncode == 0
    assert (await jobs.get_job(asked.id)).status == job_pb2.JOB_STATUS_PENDING


async def test_a_killed_worker_is_succeeded_and_its_render_adopted(
    command: Run, jobs: JobServiceClient, simulator: Simulator
) -> None:
    hold = simulator.faults.hold()
    first = await command("run")
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        prompt_id = await hold.reached()
    first.kill()
    await first.wait()
    await command("run")
    hold.release()
    done = await completed(jobs, asked.id)
    assert (done.attempt, done.comfyui_prompt_id) == (2, prompt_id)
    assert simulator.signals.queued == {prompt_id: 1}


async def test_a_superseded_worker_says_so_and_ends(command: Run, simulator: Simulator) -> None:
    first = await command("run")
    async with asyncio.timeout(SECONDS):
        assert first.stdout is not None
        while b"registered" not in await first.stdout.readline():
            pass
    await command("run")
    output = await output_of(first)
    assert first.returncode == 1
    assert "comfy-worker: a newer process serves as worker 'box'" in output
    assert "Traceback" not in output


async def test_check_says_what_it_found(command: Run, service: str) -> None:
    process = await command("check")
    output = await output_of(process)
    assert process.returncode == 0
    assert output.splitlines()[0] == f"ok      job_service at {service}: admits worker box"


async def test_check_fails_when_something_is_missing(command: Run) -> None:
    process = await command("check", COMFY_WORKER_COMFYUI_URLS="gpu=http://127.0.0.1:1")
    output = await output_of(process)
    assert process.returncode == 1
    assert "FAILED  ComfyUI gpu at http://127.0.0.1:1: GET /system_stats" in output


async def test_settings_that_cannot_be_used_are_a_line_not_a_traceback(command: Run) -> None:
    process = await command("run", COMFY_WORKER_DEPTH="none")
    output = await output_of(process)
    assert process.returncode == 1
    assert "COMFY_WORKER_DEPTH" in output
    assert "Traceback" not in output


async def test_config_shows_every_setting(command: Run, service: str) -> None:
    process = await command("config", COMFY_WORKER_TOKEN="hidden")
    output = await output_of(process)
    assert f"COMFY_WORKER_JOB_SERVICE={service}" in output
    assert "COMFY_WORKER_NAME=box" in output
    assert "hidden" not in output


async def test_every_line_about_a_job_names_it_and_none_holds_its_prompt(
    command: Run, jobs: JobServiceClient, simulator: Simulator
) -> None:
    canary = "CANARY-of-a-prompt"
    process = await command("run", COMFY_WORKER_LOG_FORMAT="json")
    done = await jobs.create_job(picture(prompt=canary, negative_prompt=canary))
    await completed(jobs, done.id)
    simulator.faults.fail_node("CLIPTextEncode")
    failed = await jobs.create_job(picture(prompt=canary, max_attempts=1))
    await ended(jobs, failed.id)
    process.send_signal(signal.SIGTERM)
    output = await output_of(process)
    assert canary not in output
    lines = [json.loads(line) for line in output.splitlines()]
    told = {line["event"]: line for line in lines}
    for event, job_id in (("job completed", done.id), ("job failed", failed.id)):
        said = told[event]
        assert (said["job_id"], said["attempt"]) == (job_id, 1)
        assert said["backend"].startswith("127.0.0.1-")
