"""Staying alive in the eyes of job_service, and hearing what it wants."""

import asyncio
from typing import Final

import grpc
import structlog
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.cannot_run import CannotRunError
from comfy_worker.worker.directives import Directives
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.lease_book import LeaseBook
from comfy_worker.worker.retrying import endlessly
from comfy_worker.worker.service_errors import NotAllowedError, SupersededError

_WAIT_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


class Heart:
    """Keeps one Heartbeat call open all the time.

    While job_service cannot be reached, the jobs go on: only LOST or CANCEL ends one.
    """

    def __init__(
        self,
        service: JobServiceConnection,
        book: LeaseBook,
        directives: Directives,
    ) -> None:
        self._service = service
        self._book = book
        self._directives = directives
        self._draining = asyncio.Event()
        self._has_beaten = False

    def drain(self) -> None:
        """Tell job_service at once that the worker takes no more jobs."""
        self._draining.set()

    async def beat(self) -> None:
        """Beat for ever.

        Raises SupersededError when a newer process has the worker's name and this one is
        not draining, and CannotRunError when job_service does not admit the worker.
        """
        while True:
            answer = await endlessly(self._beat_once, self._service.contact)
            if answer is not None:
                self._service.contact.answered()
                self._take(answer)

    async def _beat_once(self) -> pb.HeartbeatResponse | None:
        """Hold one call; None when draining began meanwhile, to be told at once."""
        draining = self._draining.is_set()
        # The first one only registers the worker, and shows whether it is admitted; one after
        # an outage shows that it is over.
        is_probe = not self._has_beaten or self._service.contact.is_lost
        wait = 0.0 if is_probe else _WAIT_SECONDS
        call = asyncio.create_task(
            self._service.heartbeat(self._book.refs(), wait=wait, draining=draining)
        )
        begun = asyncio.create_task(self._draining.wait())
        try:
            waiting = [call] if draining else [call, begun]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return await call if call.done() else None
        except NotAllowedError as error:
            if self._has_beaten:
                raise
            raise CannotRunError(f"job_service does not admit this worker: {error}") from error
        finally:
            begun.cancel()
            call.cancel()

    def _take(self, answer: pb.HeartbeatResponse) -> None:
        if not self._has_beaten:
            self._has_beaten = True
            log.info("registered with job_service", worker=self._service.worker.name)
        if pb.WORKER_DIRECTIVE_SUPERSEDED in answer.directives and not self._draining.is_set():
            raise SupersededError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "SUPERSEDED",
                f"a newer process serves as worker {self._service.worker.name!r}",
            )
        self._directives.follow(answer.directives)
        self._directives.apply(answer.verdicts)
