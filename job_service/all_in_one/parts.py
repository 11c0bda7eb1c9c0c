"""The parts and how they are brought up: ComfyUI or its simulator, job_service, a worker."""

import asyncio
import os
import socket
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from job_service.all_in_one.supervisor import Supervisor
from job_service.cannot_run import CannotRunError
from job_service.health_probe import wait_until_serving

SCRIPTS = Path(sysconfig.get_path("scripts"))
SIMULATOR_READY = "comfy-simulator listening on "
WORKER_READY = "comfyui offered"
COMFYUI_SECONDS = 10
# The worker drains, job_service lets calls end and stops its database.
STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Running:
    """What is up, and where."""

    address: str
    comfyui: str


async def bring_up(
    supervisor: Supervisor, *, listen: str, comfyui: str | None, environment: dict[str, str]
) -> Running:
    """Start every part and wait until pictures can be made.

    Args:
        supervisor: runs the parts.
        listen: host:port for job_service.
        comfyui: URL of a ComfyUI to use; ``None`` starts the simulator.
        environment: of all parts.
    """
    used, _ = await asyncio.gather(
        _comfyui(supervisor, comfyui, environment), _service(supervisor, listen, environment)
    )
    worker = await supervisor.start(
        "comfy-worker",
        [script("comfy-worker"), "run"],
        environment | {"COMFY_WORKER_JOB_SERVICE": listen, "COMFY_WORKER_COMFYUI_URLS": used},
        stop_seconds=STOP_SECONDS,
    )
    await worker.says(WORKER_READY)
    return Running(listen, used)


async def first_checkpoint(comfyui: str) -> str:
    """Ask a ComfyUI for the first checkpoint it has.

    Raises:
        CannotRunError: there is no ComfyUI at that URL, or it has no checkpoint.
    """
    url = f"{comfyui.rstrip('/')}/models/checkpoints"
    timeout = aiohttp.ClientTimeout(total=COMFYUI_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.get(url) as answer,
        ):
            names = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise CannotRunError(f"no ComfyUI answers at {comfyui}: {why}") from error
    if not isinstance(names, list) or not names:
        raise CannotRunError(f"the ComfyUI at {comfyui} has no checkpoint: give it one")
    return str(names[0])


def script(name: str) -> str:
    """Find one of our own console scripts."""
    return str(SCRIPTS / name)


def own_environment() -> dict[str, str]:
    """Our environment without settings of the parts, which here are all given."""
    prefixes = ("JOB_SERVICE_", "COMFY_WORKER_", "GENJOBS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def free_address() -> str:
    """Find a local address that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def refuse_taken(address: str) -> None:
    """Make sure that nobody listens on ``address``.

    Raises:
        CannotRunError: somebody does.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:
        return
    raise CannotRunError(
        f"something already listens on {address}: stop it, or set JOB_SERVICE_LISTEN"
    )


async def _comfyui(supervisor: Supervisor, url: str | None, environment: dict[str, str]) -> str:
    """Answer the URL of the ComfyUI to use; a simulator is started if there is none."""
    if url is not None:
        return url
    simulator = await supervisor.start(
        "comfy-simulator",
        [script("comfy-simulator"), "--listen", "127.0.0.1:0"],
        environment,
        stop_seconds=STOP_SECONDS,
    )
    line = await simulator.says(SIMULATOR_READY)
    return line.partition(SIMULATOR_READY)[2].split()[0]


async def _service(supervisor: Supervisor, listen: str, environment: dict[str, str]) -> None:
    await supervisor.start(
        "job-service",
        [script("job-service"), "serve"],
        environment | {"JOB_SERVICE_LISTEN": listen},
        stop_seconds=STOP_SECONDS,
    )
    await wait_until_serving(listen)
