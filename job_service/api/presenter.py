"""Jobs as clients see them, with what is not in their row."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from generation_jobs.v1 import job_pb2

from job_service.api.encode import job_message
from job_service.events.progress_board import ProgressBoard
from job_service.queue.explanation import nobody_offers
from job_service.queue.fleet import Fleet
from job_service.store.artifacts import ArtifactRow, ArtifactTable
from job_service.store.attempts import AttemptRow, attempts_of
from job_service.store.database import Database
from job_service.store.tables import JobRow


class JobPresenter:
    """Adds progress, pending reasons, artifacts and attempts; two statements for any number."""

    def __init__(
        self, database: Database, artifacts: ArtifactTable, board: ProgressBoard, fleet: Fleet
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._board = board
        self._fleet = fleet

    async def basic(self, row: JobRow) -> job_pb2.GenerationJob:
        """A job in view BASIC."""
        return job_message(
            row,
            progress=self._board.progress(row.id, row.attempt),
            pending_reason=await self.pending_reason(row),
            full=False,
        )

    async def full(self, row: JobRow) -> job_pb2.GenerationJob:
        """A job in view FULL, with a word on what it waits for."""
        (message,) = await self.all_full([row])
        if message.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS:
            needs = await self._fleet.needs_of(row.route_key)
            if needs is not None:
                message.pending_detail = nobody_offers(await self._fleet.missing(needs))
        return message

    async def all_full(self, rows: Sequence[JobRow]) -> list[job_pb2.GenerationJob]:
        """Jobs in view FULL."""
        completed = [row.id for row in rows if row.status == "completed"]
        tried = [row.id for row in rows if row.attempt]
        artifacts: dict[int, list[ArtifactRow]] = {}
        attempts: dict[int, list[AttemptRow]] = {}
        if completed or tried:  # a new job has neither, and the answer to CreateJob is the hot one
            artifacts, attempts = await asyncio.gather(
                self._artifacts.of_jobs(completed), attempts_of(self._database, tried)
            )
        return [
            job_message(
                row,
                progress=self._board.progress(row.id, row.attempt),
                pending_reason=await self.pending_reason(row),
                artifacts=artifacts.get(row.id, ()),
                attempts=attempts.get(row.id, ()),
            )
            for row in rows
        ]

    async def pending_reason(self, row: JobRow) -> "job_pb2.PendingReason.ValueType":
        """What a job waits for; UNSPECIFIED when it is not pending."""
        if row.status != "pending":
            return job_pb2.PENDING_REASON_UNSPECIFIED
        if not row.dispatchable:
            return _why_not_dispatchable(row)
        needs = await self._fleet.needs_of(row.route_key)
        if needs is not None and self._fleet.is_paused(needs):
            return job_pb2.PENDING_REASON_PAUSED
        if needs is None or not await self._fleet.can_run(needs):
            return job_pb2.PENDING_REASON_NO_WORKER_OFFERS
        if row.adopt_until is not None and row.adopt_until > datetime.now(UTC):
            return job_pb2.PENDING_REASON_ADOPTION
        return job_pb2.PENDING_REASON_QUEUED


def _why_not_dispatchable(row: JobRow) -> "job_pb2.PendingReason.ValueType":
    if row.not_before is None:
        return job_pb2.PENDING_REASON_USER_LIMIT
    if row.not_before == row.scheduled_at:
        return job_pb2.PENDING_REASON_SCHEDULED
    return job_pb2.PENDING_REASON_RETRY_DELAY
