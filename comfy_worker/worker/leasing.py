"""Getting work: one LeaseJobs call held open while there is room."""

import asyncio
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final
from uuid import uuid4

import structlog
from generation_jobs.v1 import job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.worker.backend_pool import BackendPool
from comfy_worker.worker.directives import Directives
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.lease_book import LeaseBook
from comfy_worker.worker.retrying import endlessly
from comfy_worker.worker.service_errors import JobServiceError

_WAIT_SECONDS: Final = 30.0
_MOST_JOBS: Final = 64
_VERSION: Final = version("generation-jobs")

log = structlog.get_logger(__name__)


class Leaser:
    """Leases jobs while there is room for them; ``on_lease`` starts each.

    The same request id is used until its answer has come, so that an answer that got lost,
    or a call given up because more ComfyUIs have room, strands no lease.
    """

    def __init__(
        self,
        service: JobServiceConnection,
        book: LeaseBook,
        pool: BackendPool,
        directives: Directives,
        labels: Sequence[str],
        on_lease: Callable[[pb.Lease], None],
    ) -> None:
        self._service = service
        self._book = book
        self._pool = pool
        self._directives = directives
        self._labels = labels
        self._on_lease = on_lease
        self._request_id = str(uuid4())
        self._is_unanswered = False

    async def lease(self) -> None:
        """Lease for ever; raises SupersededError."""
        while True:
            answer = await endlessly(self._call, self._service.contact)
            if answer is not None and answer.directives:
                self._directives.follow(answer.directives)

    async def collect(self) -> None:
        """Fetch, after leasing has stopped, what a call given up may have been granted."""
        if not self._is_unanswered:
            return
        try:
            await self._lease(offers=(), wait=0.0)
        except JobServiceError as error:
            log.warning("leases may be left unclaimed", reason=str(error))

    async def _offers_with_room(self) -> list[pb.BackendOffer]:
        """Wait until some ComfyUI has room, and describe all that are there."""
        while True:
            self._book.room.clear()
            offers = self._pool.offers(self._book.depth, self._book.free_slots)
            if not self._directives.is_paused and _with_room(offers):
                return offers
            await self._book.room.wait()

    async def _call(self) -> pb.LeaseJobsResponse | None:
        """Hold one call; None when what it offered is no longer what there is to offer."""
        offers = await self._offers_with_room()
        call = asyncio.create_task(self._lease(offers, _WAIT_SECONDS))
        try:
            while not call.done():
                changed = asyncio.create_task(self._book.room.wait())
                await asyncio.wait([call, changed], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if not call.done() and self._is_outdated(offers):
                    return None
                self._book.room.clear()
            return await call
        finally:
            call.cancel()

    async def _lease(self, offers: Sequence[pb.BackendOffer], wait: float) -> pb.LeaseJobsResponse:
        """Make one call and start what it brings: nobody can come between the two."""
        offer = pb.WorkerOffer(
            version=_VERSION,
            backend_labels=self._labels,
            job_types=[job_pb2.JOB_TYPE_IMAGE],
            backends=offers,
        )
        free = sum(backend.free_slots for backend in offers)
        self._is_unanswered = True
        answer = await self._service.lease_jobs(
            offer,
            max_jobs=max(1, min(free, _MOST_JOBS)),
            wait=wait,
            request_id=self._request_id,
        )
        self._is_unanswered = False
        self._request_id = str(uuid4())
        for lease in answer.leases:
            self._on_lease(lease)
        self._service.contact.answered()
        return answer

    def _is_outdated(self, offered: Sequence[pb.BackendOffer]) -> bool:
        """Whether another ComfyUI has room by now, or an offered one is not there any more.

        One that has filled up since may get one job more than it wants: what is leased at this
        moment would go back to the queue if the call were given up.
        """
        if self._directives.is_paused:
            return True
        now = self._pool.offers(self._book.depth, self._book.free_slots)
        offered_room, there = _with_room(offered), _digests(now)
        return not _with_room(now).items() <= offered_room.items() <= there.items()


def _digests(offers: Sequence[pb.BackendOffer]) -> dict[str, str]:
    """Return the catalogue digests of ComfyUIs, by name."""
    return {offer.name: offer.catalogue_digest for offer in offers}


def _with_room(offers: Sequence[pb.BackendOffer]) -> dict[str, str]:
    """Return the same of those that have room."""
    return _digests([offer for offer in offers if offer.free_slots])
