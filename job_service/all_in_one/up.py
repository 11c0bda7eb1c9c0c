"""``make up``: everything, left running until Ctrl-C."""

import asyncio
import os
from pathlib import Path

from job_service.all_in_one import parts
from job_service.all_in_one.supervisor import Supervisor

DATA = Path(".data")
LISTEN = "127.0.0.1:50051"

BANNER = """
job_service serves on {address}. Ctrl-C stops everything; logs are in {logs}/.
Pictures are made by {maker}.

Try, in another terminal:

  .venv/bin/genjobs submit --prompt "a red fox" --checkpoint {checkpoint} --output pictures
  .venv/bin/genjobs list

  .venv/bin/buf curl --protocol grpc --http2-prior-knowledge --list-methods http://{address}
  .venv/bin/buf curl --protocol grpc --http2-prior-knowledge \\
      -d '{{"job": {{"prompt": "a red fox", "checkpoint_model": "{checkpoint}"}}}}' \\
      http://{address}/generation_jobs.v1.GenerationJobService/CreateJob

  grpcurl -plaintext {address} list
"""


async def up() -> None:
    """Run everything until SIGINT or SIGTERM.

    Raises:
        CannotRunError: a part of the whole does not run, or has ended by itself.
    """
    logs = DATA / "logs"
    async with Supervisor(logs, echo=_show) as supervisor:
        await supervisor.run(_stay_up(supervisor, logs))
        print("Stopping; Ctrl-C again ends everything at once", flush=True)


async def _stay_up(supervisor: Supervisor, logs: Path) -> None:
    comfyui = os.environ.get("COMFYUI_URL") or None
    if comfyui is not None:
        await parts.first_checkpoint(comfyui)  # before anything is started
    environment = {"JOB_SERVICE_DATA_DIR": str(DATA), **os.environ}
    listen = environment.get("JOB_SERVICE_LISTEN", LISTEN)
    parts.refuse_taken(listen)
    running = await parts.bring_up(
        supervisor, listen=listen, comfyui=comfyui, environment=environment
    )
    print(
        BANNER.format(
            address=running.address,
            logs=logs,
            maker=f"the ComfyUI at {comfyui}" if comfyui else "a simulated ComfyUI",
            checkpoint=await parts.first_checkpoint(running.comfyui),
        ),
        flush=True,
    )
    await asyncio.Event().wait()


def _show(name: str, line: str) -> None:
    print(f"{name:15} | {line}", flush=True)
