"""A worker process: put together from its settings, ended by signals."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import structlog
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.cannot_run import CannotRunError
from comfy_worker.comfyui import ComfyBackend, DriverSettings
from comfy_worker.monitoring.counted import Counted
from comfy_worker.monitoring.http_endpoint import monitored
from comfy_worker.settings import Settings
from comfy_worker.worker.access import Access, Tls, TokenFile
from comfy_worker.worker.job_run import RunSettings
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.service_errors import SupersededError
from comfy_worker.worker.worker import Worker

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then drain; a second signal gives the jobs back at once.

    Raises CannotRunError when job_service does not admit the worker, or a newer process
    has taken its name.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, hurry)
    await work(settings, stop, hurry)


async def work(
    settings: Settings,
    stop: asyncio.Event,
    hurry: asyncio.Event,
    driver: DriverSettings | None = None,
) -> None:
    """Work until ``stop`` is set, then drain until ``hurry`` is; raises as :func:`run` does."""
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(connection(settings))
        backends = [
            await stack.enter_async_context(ComfyBackend(name, url, driver))
            for name, url in settings.comfyui_urls.items()
        ]
        counted = Counted()
        worker = Worker(
            service,
            backends,
            depth=settings.depth,
            labels=settings.labels,
            grace=settings.grace.total_seconds(),
            catalogue_interval=settings.catalogue_interval.total_seconds(),
            run_settings=RunSettings(
                outcome_hold=settings.outcome_hold.total_seconds(),
                max_output_bytes=settings.max_output_bytes,
                previews=settings.previews,
            ),
            counted=counted,
        )
        await stack.enter_async_context(monitored(settings.metrics_listen, counted, worker.state))
        log.info("comfy_worker begins", worker=settings.name, job_service=settings.job_service)
        try:
            await worker.work(stop, hurry)
        except BaseExceptionGroup as group:
            if group.subgroup(SupersededError) is not None:
                raise CannotRunError(
                    f"a newer process serves as worker {settings.name!r}; no two workers may "
                    "have the same COMFY_WORKER_NAME"
                ) from group
            refused = group.subgroup(CannotRunError)
            if refused is not None:
                raise CannotRunError(str(refused.exceptions[0])) from group
            raise
    log.info("comfy_worker ends")


def connection(settings: Settings) -> JobServiceConnection:
    """Prepare the connection to job_service, under an identity of this process's own.

    Raises CannotRunError: a file with a token or a certificate cannot be read.
    """
    identity = pb.WorkerIdentity(name=settings.name, instance_id=str(uuid4()))
    try:
        access = _access(settings)
        return JobServiceConnection(access, identity, settings.ping_interval.total_seconds())
    except OSError as error:
        raise CannotRunError(f"cannot read {error.filename}: {error.strerror}") from error


def _access(settings: Settings) -> Access:
    tls = None
    if settings.uses_tls:
        tls = Tls(
            authority=_content(settings.tls_ca),
            certificate=_content(settings.tls_cert),
            key=_content(settings.tls_key),
            server_name=settings.tls_server_name,
        )
    token: str | TokenFile | None = None
    if settings.token_file is not None:
        token = TokenFile(settings.token_file)
    elif settings.token is not None:
        token = settings.token.get_secret_value()
    return Access(settings.job_service_address, token, tls)


def _content(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None


def _on_signal(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    if stop.is_set():
        hurry.set()
    stop.set()
