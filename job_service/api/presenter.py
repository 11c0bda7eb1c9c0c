"""Jobs as clients see them, with what is not in their row."""

from collections.abc import Sequence
from datetime import UTC, datetime

from generation_jobs.v1 import job_pb2

from job_service.api.encode import job_message
from job_service.events.progress_board import ProgressBoard
from job_service.queue.explanation import nobody_offers
from job_service.queue.fleet import Fleet
from job_service.store.database import Database
from job_service.store.job_details import DetailedJob, JobDetails, details_of
from job_service.store.tables import JobRow


class JobPresenter:
    """Adds progress, pending reasons, artifacts and attempts; one statement for any number."""

    def __init__(self, database: Database, board: ProgressBoard, fleet: Fleet) -> None:
        self._database = database
        self._board = board
        self._fleet = fleet

    async def basic(self, row: JobRow) -> job_pb2.GenerationJob:
        """A job in view BASIC."""
        return job_message(
            row,
            progress=self._progress(row),
            pending_reason=await self.pending_reason(row),
            full=False,
        )

    async def full(self, row: JobRow) -> job_pb2.GenerationJob:
        """A job in view FULL, with a word on what it waits for."""
        details = await details_of(self._database, [row])
        return await self.detailed(DetailedJob(row, details[row.id]))

    async def detailed(self, job: DetailedJob) -> job_pb2.GenerationJob:
        """The same, of a job whose details are known."""
        row = job.row
        message = await self._full(row, job.details)
        if message.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS:
            needs = await self._fleet.needs_of(row.route_key)
            if needs is not None:
                message.pending_detail = nobody_offers(await self._fleet.missing(needs))
        return message

    async def all_full(self, rows: Sequence[JobRow]) -> list[job_pb2.GenerationJob]:
        """Jobs in view FULL."""
        details = await details_of(self._database, rows)
        return [await self._full(row, details[row.id]) for row in rows]

    async def _full(self, row: JobRow, details: JobDetails) -> job_pb2.GenerationJob:
        return job_message(
            row,
            progress=self._progress(row),
            pending_reason=await self.pending_reason(row),
            artifacts=details.artifacts if row.status == "completed" else (),
            attempts=details.attempts,
        )

    def _progress(self, row: JobRow) -> job_pb2.JobProgress | None:
        """Newer progress than the row's; of a job that has ended, the row has the last word."""
        return self._board.progress(row.id, row.attempt) if row.status == "running" else None

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
