"""Whether a worker with these settings could work: both sides reached, without side effects."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass

from comfy_worker.comfyui import ComfyBackend, ComfyError
from comfy_worker.settings import Settings, without_password
from comfy_worker.worker.process import connection
from comfy_worker.worker.service_errors import JobServiceError, NotAllowedError

_SOCKET_SECONDS = 5.0
_LEAST_FREE = 64 * 1024**2
"""Bytes; a picture with its thumbnails takes a few MiB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; when it is not good, ``remedy`` says how to mend it."""

    subject: str
    good: bool
    says: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.good or self.remedy, f"{self.subject} fails, and nobody is told what to do"


async def run(settings: Settings) -> list[Finding]:
    """Look at job_service, at every ComfyUI, and at the room for temporary files."""
    backends = (_comfyui(name, url) for name, url in settings.comfyui_urls.items())
    found = await asyncio.gather(_job_service(settings), *backends)
    return [*found, await asyncio.to_thread(_scratch)]


async def _job_service(settings: Settings) -> Finding:
    """Call as a worker; an empty report changes nothing, and registers nobody."""
    subject = f"job_service at {settings.job_service}"
    async with connection(settings) as service:
        try:
            await service.report_progress([])
            if not await service.is_serving():
                return Finding(
                    subject,
                    good=False,
                    says="answers, but is not serving",
                    remedy="it stops, or has no database: `job-service check` there says which",
                )
        except JobServiceError as error:
            return Finding(subject, good=False, says=str(error), remedy=_remedy(error))
    return Finding(subject, good=True, says=f"admits worker {settings.name}")


async def _comfyui(name: str, url: str) -> Finding:
    subject = f"ComfyUI {name} at {without_password(url)}"
    async with ComfyBackend(name, url) as backend:
        try:
            info = await backend.server_info()
            catalogue = await backend.catalogue()
        except ComfyError as error:
            return Finding(
                subject,
                good=False,
                says=str(error),
                remedy="start ComfyUI (with --listen if it is on another machine), and see that"
                " COMFY_WORKER_COMFYUI_URLS names it",
            )
        if not await backend.wait_connected(_SOCKET_SECONDS):
            return Finding(
                subject,
                good=False,
                says="answers, but opens no WebSocket at /ws",
                remedy="have the proxy in front of it pass WebSockets on, or go around the proxy",
            )
    models = f"{len(catalogue.checkpoints)} checkpoints, {len(catalogue.loras)} LoRAs"
    says = f"version {info.version or 'unknown'} on {info.device or 'unknown device'}, {models}"
    if not catalogue.checkpoints:
        return Finding(
            subject,
            good=False,
            says=says,
            remedy="put a model into models/checkpoints of this ComfyUI",
        )
    return Finding(subject, good=True, says=says)


def _remedy(error: JobServiceError) -> str:
    if isinstance(error, NotAllowedError):
        return (
            "have an admin make a token (`job-service token create`, role worker) and set"
            " COMFY_WORKER_TOKEN or COMFY_WORKER_TOKEN_FILE"
        )
    return (
        "start job_service, and see that COMFY_WORKER_JOB_SERVICE names it and that both sides"
        " speak TLS or neither"
    )


def _scratch() -> Finding:
    """Results pass through the folder for temporary files on their way to job_service."""
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as probe:
            probe.write(b"x")
            probe.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        free = 0
        says = f"{folder} cannot be written to: {error.strerror}"
    else:
        says = f"{folder} has {free // 1024**2:,} MiB free"
    if free < _LEAST_FREE:
        remedy = "make room there, or point TMPDIR at a folder that has some"
        return Finding("temporary files", good=False, says=says, remedy=remedy)
    return Finding("temporary files", good=True, says=says)
