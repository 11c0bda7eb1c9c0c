"""The ComfyUIs of this worker: which are there, and what each offers."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from generation_jobs.v1 import worker_service_pb2 as pb
from tenacity import AsyncRetrying, retry_if_exception_type

from comfy_worker.comfyui import ComfyBackend, ComfyError
from comfy_worker.outage import Outage
from comfy_worker.worker.catalogue_report import backend_catalogue
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.retrying import endlessly, pauses

_USUAL_SECONDS: Final = 5.0
"""A ComfyUI that is there answers sooner."""

log: Final = structlog.get_logger(__name__)


class BackendPool:
    """Keeps job_service informed of what the ComfyUIs offer.

    A ComfyUI is offered while it is available and its catalogue has been reported;
    ``on_change`` is called when that changes. Models have no event: they are looked for
    every ``interval`` seconds.
    """

    def __init__(
        self,
        backends: Sequence[ComfyBackend],
        service: JobServiceConnection,
        *,
        interval: float,
        on_change: Callable[[], None],
    ) -> None:
        self._backends = {backend.name: backend for backend in backends}
        self._service = service
        self._interval = interval
        self._on_change = on_change
        self._digests: dict[str, str] = {}
        self._refresh = {name: asyncio.Event() for name in self._backends}

    def find(self, name: str) -> ComfyBackend | None:
        """Return the ComfyUI of that name."""
        return self._backends.get(name)

    def offers(self, slots: int, free_slots: Callable[[str], int]) -> list[pb.BackendOffer]:
        """Describe the ComfyUIs that can take prompts now."""
        return [
            pb.BackendOffer(
                name=name,
                slots=slots,
                free_slots=free_slots(name),
                loaded_checkpoint=self._backends[name].loaded_checkpoint or "",
                catalogue_digest=digest,
            )
            for name, digest in self._digests.items()
            if self._backends[name].available
        ]

    def health(self) -> list[tuple[str, bool, bool]]:
        """Of each ComfyUI its name, whether it is available, and whether it is offered."""
        return [
            (name, backend.available, name in self._digests)
            for name, backend in self._backends.items()
        ]

    def refresh(self) -> None:
        """Report every catalogue again; until then nothing is offered."""
        self._digests.clear()
        for event in self._refresh.values():
            event.set()

    async def keep_informed(self) -> None:
        """Report catalogues for ever."""
        async with asyncio.TaskGroup() as group:
            for backend in self._backends.values():
                group.create_task(self._keep_informed_of(backend))

    async def _keep_informed_of(self, backend: ComfyBackend) -> None:
        refresh = self._refresh[backend.name]
        while True:
            if not await backend.wait_available(_USUAL_SECONDS):
                log.warning("waiting for comfyui", backend=backend.name)
                await backend.wait_available()
            refresh.clear()
            await self._report(backend)
            if not await self._stays(backend, refresh):
                self._digests.pop(backend.name, None)
                self._on_change()

    async def _report(self, backend: ComfyBackend) -> None:
        catalogue = await _read_catalogue(backend)
        if self._digests.get(backend.name) == catalogue.digest:
            return
        await endlessly(lambda: self._service.report_catalogue(catalogue), self._service.contact)
        self._digests[backend.name] = catalogue.digest
        self._on_change()
        log.info(
            "comfyui offered",
            backend=backend.name,
            version=catalogue.comfyui_version,
            checkpoints=len(catalogue.checkpoints),
        )

    async def _stays(self, backend: ComfyBackend, refresh: asyncio.Event) -> bool:
        """Wait until the catalogue has to be looked at again; False when ComfyUI went away."""
        gone = asyncio.create_task(backend.wait_unavailable())
        due = asyncio.create_task(refresh.wait())
        try:
            await asyncio.wait(
                [gone, due], timeout=self._interval, return_when=asyncio.FIRST_COMPLETED
            )
            return not gone.done()
        finally:
            gone.cancel()
            due.cancel()


async def _read_catalogue(backend: ComfyBackend) -> pb.BackendCatalogue:
    """Read what it offers, however long that takes."""
    outage = Outage(
        log.bind(backend=backend.name),
        begins="catalogue cannot be read, trying until it can",
        lasts="catalogue still cannot be read",
        ends="catalogue has been read",
    )
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(ComfyError), wait=pauses, before_sleep=outage.failed_call
    ):
        with attempt:
            catalogue = backend_catalogue(
                backend.name, await backend.catalogue(), await backend.server_info()
            )
            outage.over()
            return catalogue
    raise AssertionError  # pragma: no cover - tried until it succeeds
