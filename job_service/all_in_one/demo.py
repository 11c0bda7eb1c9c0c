"""``make demo``: one picture through all the real parts."""

import asyncio
import os
from pathlib import Path

import grpc
from generation_jobs.v1.generation_job_service_pb2 import ListJobsRequest
from generation_jobs.v1.generation_job_service_pb2_grpc import GenerationJobServiceStub

from job_service.all_in_one import parts
from job_service.all_in_one.supervisor import Supervisor
from job_service.bound_process import bound_command

DATA = Path(".data/demo")
OUTPUT = "demo-output"
PROMPT = "a lighthouse on a cliff above a calm sea, golden hour, highly detailed"
NEGATIVE_PROMPT = "blurry, low quality"
# For a ComfyUI that is slow, such as one on a CPU.
OVERRIDES = {"DEMO_WIDTH": "--width", "DEMO_HEIGHT": "--height", "DEMO_STEPS": "--steps"}
INTERRUPTED = 130

NEXT = f"""
The picture and its thumbnails are in {OUTPUT}/. What to try next:

  make up                                       keep all of this running on 127.0.0.1:50051
  COMFYUI_URL=http://127.0.0.1:8188 make demo   the same with a ComfyUI of your own
  .venv/bin/genjobs --help                      submit, watch, list, cancel, download
"""


async def demo() -> int:
    """Make the picture, save it, and answer the exit code.

    Raises:
        CannotRunError: a part of the whole does not run.
    """
    comfyui = os.environ.get("COMFYUI_URL") or None
    if comfyui is not None:
        await parts.first_checkpoint(comfyui)  # before anything is started
    async with Supervisor(DATA / "logs") as supervisor:
        code = await supervisor.run(_make_one(supervisor, comfyui))
    return INTERRUPTED if code is None else code


async def _make_one(supervisor: Supervisor, comfyui: str | None) -> int:
    print("Starting PostgreSQL, job_service, a worker", end=" ", flush=True)
    print("and a simulated ComfyUI …" if comfyui is None else f"for the ComfyUI at {comfyui} …")
    environment = parts.own_environment() | {
        "JOB_SERVICE_DATA_DIR": str(DATA),
        "COMFY_WORKER_GRACE": "2",  # after a Ctrl-C nobody waits for the picture
    }
    running = await parts.bring_up(
        supervisor, listen=parts.free_address(), comfyui=comfyui, environment=environment
    )
    environment |= {"GENJOBS_ADDRESS": running.address}
    code = await _genjobs(environment, *await _wishes(running.comfyui))
    if code == 0:
        await _genjobs(environment, "get", await _newest_job(running.address))
        print(NEXT)
    return code


async def _wishes(comfyui: str) -> list[str]:
    overrides = [
        f"{option}={os.environ[name]}" for name, option in OVERRIDES.items() if os.environ.get(name)
    ]
    return [
        "submit",
        "--wait",
        "--thumbnails",
        f"--output={OUTPUT}",
        f"--prompt={PROMPT}",
        f"--negative={NEGATIVE_PROMPT}",
        f"--checkpoint={await parts.first_checkpoint(comfyui)}",
        *overrides,
    ]


async def _newest_job(address: str) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        jobs = GenerationJobServiceStub(channel)
        return str((await jobs.ListJobs(ListJobsRequest(page_size=1))).jobs[0].id)


async def _genjobs(environment: dict[str, str], *arguments: str) -> int:
    """Run genjobs on our terminal, where it shows its progress bar."""
    command = bound_command(parts.script("genjobs"), *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
