"""Whether a worker with these settings could work: both sides reached, without side effects."""

import asyncio
from dataclasses import dataclass

from comfy_worker.comfyui import ComfyBackend, ComfyError
from comfy_worker.settings import Settings, without_password
from comfy_worker.worker.process import connection
from comfy_worker.worker.service_errors import JobServiceError

_SOCKET_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    good: bool
    says: str


async def run(settings: Settings) -> list[Finding]:
    """Look at job_service and at every ComfyUI."""
    backends = (_comfyui(name, url) for name, url in settings.comfyui_urls.items())
    return list(await asyncio.gather(_job_service(settings), *backends))


async def _job_service(settings: Settings) -> Finding:
    """Call as a worker; an empty report changes nothing, and registers nobody."""
    subject = f"job_service at {settings.job_service}"
    async with connection(settings) as service:
        try:
            await service.report_progress([])
            if not await service.is_serving():
                return Finding(subject, good=False, says="answers, but is not serving")
        except JobServiceError as error:
            return Finding(subject, good=False, says=str(error))
    return Finding(subject, good=True, says=f"admits worker {settings.name}")


async def _comfyui(name: str, url: str) -> Finding:
    subject = f"ComfyUI {name} at {without_password(url)}"
    async with ComfyBackend(name, url) as backend:
        try:
            info = await backend.server_info()
            catalogue = await backend.catalogue()
        except ComfyError as error:
            return Finding(subject, good=False, says=str(error))
        if not await backend.wait_connected(_SOCKET_SECONDS):
            return Finding(subject, good=False, says="answers, but opens no WebSocket at /ws")
    models = f"{len(catalogue.checkpoints)} checkpoints, {len(catalogue.loras)} LoRAs"
    says = f"version {info.version or 'unknown'} on {info.device or 'unknown device'}, {models}"
    return Finding(subject, good=bool(catalogue.checkpoints), says=says)
