"""Statements on jobs as clients see them: read, list, cancel, retry, delete."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from generation_jobs.v1 import job_error_pb2
from psycopg import errors as pg

from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.admission import UserCaps
from job_service.store.database import Database, as_json, statement
from job_service.store.fair_share import tagging
from job_service.store.job_details import DetailedJob, detailed
from job_service.store.lease_key import LeaseKey
from job_service.store.outcomes import error_as_json
from job_service.store.tables import JOB_COLUMNS_SQL, JobRow
from job_service.store.tally import UNCOUNTED, Tally

_GET: Final = statement(f"""
SELECT {JOB_COLUMNS_SQL} FROM generation_jobs AS job
WHERE id = ANY(:ids) AND (CAST(:user_id AS uuid) IS NULL OR user_id = :user_id)
""")

# Graphs may be a megabyte each, and are not shown with many jobs at once.
_GET_BASIC: Final = statement(f"""
SELECT {JOB_COLUMNS_SQL.replace("job.workflow", "NULL AS workflow")} FROM generation_jobs AS job
WHERE id = ANY(:ids)
""")

_REVISIONS: Final = statement("SELECT id, revision FROM generation_jobs WHERE id = ANY(:ids)")

# A pending job is cancelled at once; a running one when its worker confirms it, or its lease ends.
_CANCEL: Final = statement(f"""
UPDATE generation_jobs AS job SET
    status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END,
    completed_at = CASE status WHEN 'pending' THEN now() END,
    dispatchable = false,
    adopt_until = NULL,
    cancel_requested_at = coalesce(cancel_requested_at, now()),
    cancel_reason = coalesce(cancel_reason, :reason),
    delete_when_ended = delete_when_ended OR :delete
WHERE id = :id
    AND (
        status = 'pending'
        OR status = 'running'
            AND (cancel_requested_at IS NULL OR CAST(:delete AS boolean) AND NOT delete_when_ended)
    )
    AND (CAST(:user_id AS uuid) IS NULL OR user_id = :user_id)
RETURNING {JOB_COLUMNS_SQL}
""")

_TAGGING_AGAIN: Final = tagging(
    "SELECT id, user_id, priority FROM again WHERE not_before IS NULL AND NOT capped"
)

# As a new job: a fresh budget, a fresh place in the queue, not before it is due, and it may expire
# again. The number of attempts goes on, because prompt ids and object keys hang on it.
_RETRY: Final = statement(f"""
WITH again AS MATERIALIZED (
    SELECT job.id, job.user_id, job.priority, coalesce((
        SELECT max_running FROM user_shares AS share WHERE share.user_id = job.user_id
    ), CAST(:max_running AS integer)) IS NOT NULL AND job.user_id IS NOT NULL AS capped,
        CASE WHEN job.scheduled_at > now() THEN job.scheduled_at END AS not_before
    FROM generation_jobs AS job
    WHERE id = :id AND status IN ('failed', 'cancelled')
        AND (CAST(:user_id AS uuid) IS NULL OR user_id = :user_id)
    FOR UPDATE
), {_TAGGING_AGAIN}
UPDATE generation_jobs AS job SET
    status = 'pending',
    dispatchable = tagged.id IS NOT NULL,
    virtual_start = tagged.virtual_start,
    not_before = again.not_before,
    started_at = NULL,
    completed_at = NULL,
    expires_at = CASE WHEN expires_at > now() THEN expires_at END,
    cancel_requested_at = NULL,
    cancel_reason = NULL,
    delete_when_ended = false,
    attempts_charged = 0,
    attempts_forgiven = 0,
    error = NULL,
    error_message = NULL,
    progress = NULL
FROM again LEFT JOIN tagged USING (id) WHERE job.id = again.id
RETURNING {JOB_COLUMNS_SQL}
""")

# Whatever its worker does: the lease ends with it. After a cancel the job is CANCELLED, as after
# every other end but completion.
_FAIL_NOW: Final = statement(f"""
WITH held AS MATERIALIZED (
    SELECT id, lease_token,
        CASE WHEN cancel_requested_at IS NULL THEN 'failed' ELSE 'cancelled' END AS outcome
    FROM generation_jobs
    WHERE id = :id AND status IN ('pending', 'running') FOR UPDATE
), attempt AS (
    UPDATE job_attempts AS attempt SET
        ended_at = now(), outcome = held.outcome, status_after = held.outcome,
        error = CAST(:error AS jsonb)
    FROM held WHERE attempt.lease_token = held.lease_token
)
UPDATE generation_jobs AS job SET
    status = held.outcome,
    completed_at = now(),
    dispatchable = false,
    adopt_until = NULL,
    lease_token = NULL,
    lease_expires_at = NULL,
    worker_id = NULL,
    progress = NULL,
    error = CAST(:error AS jsonb),
    error_message = CAST(:error AS jsonb) ->> 'message'
FROM held WHERE job.id = held.id
RETURNING {JOB_COLUMNS_SQL}
""")

_LEASE_TOKEN: Final = statement(
    "SELECT lease_token FROM generation_jobs WHERE id = :id AND status = 'running'"
)

_NEXT_CHANGE: Final = statement("""
SELECT CASE status
    WHEN 'running' THEN least(lease_expires_at, started_at + attempt_timeout)
    WHEN 'pending' THEN least(
        not_before,
        CASE WHEN started_at IS NULL THEN expires_at END,
        CASE WHEN adopt_until > now() THEN adopt_until END
    )
END - now() AS wait
FROM generation_jobs WHERE id = :id
""")

# The artifacts' rows stay, without their job, until their objects are gone from the store.
_DELETE: Final = statement("""
DELETE FROM generation_jobs
WHERE id = :id
    AND status IN ('completed', 'failed', 'cancelled')
    AND (CAST(:user_id AS uuid) IS NULL OR user_id = :user_id)
RETURNING id
""")

_DELETE_ENDED: Final = statement("""
DELETE FROM generation_jobs
WHERE id IN (
    SELECT id FROM generation_jobs
    WHERE delete_when_ended AND status IN ('completed', 'failed', 'cancelled')
    ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED
)
RETURNING id
""")

_TO_DELETE: Final = statement("""
SELECT id FROM generation_jobs
WHERE delete_when_ended AND status IN ('completed', 'failed', 'cancelled')
ORDER BY id LIMIT :most
""")

_KEEP: Final = statement("UPDATE generation_jobs SET delete_when_ended = false WHERE id = :id")


class JobStore:
    """The jobs in the table."""

    def __init__(self, database: Database, caps: UserCaps, tally: Tally = UNCOUNTED) -> None:
        self._database = database
        self._caps = caps
        self._tally = tally

    async def get(self, ids: Sequence[int], user_id: UUID | None) -> dict[int, JobRow]:
        """The jobs with these ids that exist, and are the user's if one is given."""
        rows = await self._database.rows(_GET, {"ids": list(ids), "user_id": user_id})
        return {row.id: JobRow.of(row) for row in rows}

    async def get_basic(self, ids: Sequence[int]) -> dict[int, JobRow]:
        """The jobs with these ids that exist, without their workflow."""
        rows = await self._database.rows(_GET_BASIC, {"ids": list(ids)})
        return {row.id: JobRow.of(row) for row in rows}

    async def revisions(self, ids: Sequence[int]) -> dict[int, int]:
        """The revision of each of these jobs that exists."""
        rows = await self._database.rows(_REVISIONS, {"ids": list(ids)})
        return {row.id: row.revision for row in rows}

    async def cancel(
        self, job_id: int, user_id: UUID | None, reason: str | None, *, delete: bool = False
    ) -> JobRow:
        """Cancel a job, or ask its worker to. The same again changes nothing.

        ``delete`` removes it once it has ended. Raises RefusedError: JOB_NOT_FOUND, WRONG_STATE.
        """
        row = await self._database.row(
            _CANCEL, {"id": job_id, "user_id": user_id, "reason": reason, "delete": delete}
        )
        if row is not None:
            if row.status == "cancelled":
                self._tally.jobs_ended(row.status, "")
            return JobRow.of(row)
        job = await self.require(job_id, user_id)
        if job.status == "cancelled" or (job.status == "running" and job.cancel_requested_at):
            return job
        raise RefusedError(
            Refusal.WRONG_STATE,
            f"job {job_id} is {job.status}: only a pending or running job can be cancelled",
            metadata={"status": job.status},
        )

    async def retry(self, job_id: int, user_id: UUID | None) -> JobRow:
        """Put a failed or cancelled job back into the queue, as if it were new.

        Raises RefusedError: JOB_NOT_FOUND, WRONG_STATE.
        """
        row = await self._database.row(
            _RETRY, {"id": job_id, "user_id": user_id, "max_running": self._caps.max_running}
        )
        if row is not None:
            return JobRow.of(row)
        job = await self.require(job_id, user_id)
        raise RefusedError(
            Refusal.WRONG_STATE,
            f"job {job_id} is {job.status}: only a failed or cancelled job can be retried",
            metadata={"status": job.status},
        )

    async def fail_now(self, job_id: int, error: job_error_pb2.JobError) -> JobRow:
        """End a job that has not ended, as failed (cancelled after a cancel), whoever holds it.

        Raises RefusedError: JOB_NOT_FOUND, WRONG_STATE.
        """
        row = await self._database.row(
            _FAIL_NOW, {"id": job_id, "error": as_json(error_as_json(error))}
        )
        if row is not None:
            code = job_error_pb2.ErrorCode.Name(error.code) if row.status == "failed" else ""
            self._tally.jobs_ended(row.status, code)
            return JobRow.of(row)
        job = await self.require(job_id, None)
        raise RefusedError(
            Refusal.WRONG_STATE,
            f"job {job_id} is {job.status} already",
            metadata={"status": job.status},
        )

    async def lease_of(self, job_id: int) -> LeaseKey | None:
        """The lease that a running job is under."""
        row = await self._database.row(_LEASE_TOKEN, {"id": job_id})
        return None if row is None else LeaseKey(job_id, row.lease_token)

    async def next_change(self, job_id: int) -> timedelta | None:
        """How long until a job becomes due, expires or is taken from its worker, if it will."""
        row = await self._database.row(_NEXT_CHANGE, {"id": job_id})
        return None if row is None or row.wait is None else max(row.wait, timedelta())

    async def delete(self, job_id: int, user_id: UUID | None) -> None:
        """Remove a job that has ended.

        Raises RefusedError: JOB_NOT_FOUND, WRONG_STATE, JOB_REFERENCED.
        """
        try:
            deleted = await self._database.row(_DELETE, {"id": job_id, "user_id": user_id})
        except pg.IntegrityError as error:
            # PostgreSQL 18 has a code of its own for ON DELETE RESTRICT.
            if isinstance(error, pg.ForeignKeyViolation | pg.RestrictViolation):
                raise RefusedError(
                    Refusal.JOB_REFERENCED, f"job {job_id} is still referred to"
                ) from error
            raise
        if deleted is not None:
            return
        job = await self.require(job_id, user_id)
        raise RefusedError(
            Refusal.WRONG_STATE,
            f"job {job_id} is {job.status}: cancel it first, or delete it with cancel=true",
            metadata={"status": job.status},
        )

    async def delete_ended(self, most: int = 100) -> list[int]:
        """Remove jobs that were to go once they had ended; the ids of those removed.

        One that the application still refers to stays, as if nobody had asked.
        """
        try:
            return [row.id for row in await self._database.rows(_DELETE_ENDED, {"most": most})]
        except pg.IntegrityError:
            return await self._delete_ended_singly(most)

    async def _delete_ended_singly(self, most: int) -> list[int]:
        removed = []
        for row in await self._database.rows(_TO_DELETE, {"most": most}):
            try:
                await self.delete(row.id, None)
            except RefusedError as error:
                if error.refusal is Refusal.JOB_REFERENCED:
                    await self._database.run(_KEEP, {"id": row.id})
                elif error.refusal is not Refusal.JOB_NOT_FOUND:  # another replica was quicker
                    raise
            else:
                removed.append(row.id)
        return removed

    async def require(self, job_id: int, user_id: UUID | None) -> JobRow:
        """One job. Raises RefusedError: JOB_NOT_FOUND."""
        found = await self.get([job_id], user_id)
        if job_id not in found:
            raise _no_such_job(job_id)
        return found[job_id]

    async def detailed(self, ids: Sequence[int]) -> dict[int, DetailedJob]:
        """The jobs with these ids that exist, with their attempts and files."""
        return await detailed(self._database, ids)

    async def require_detailed(self, job_id: int, user_id: UUID | None) -> DetailedJob:
        """One job with its attempts and files. Raises RefusedError: JOB_NOT_FOUND."""
        job = (await self.detailed([job_id])).get(job_id)
        if job is None or user_id not in (None, job.row.user_id):
            raise _no_such_job(job_id)
        return job


def _no_such_job(job_id: int) -> RefusedError:
    return RefusedError(Refusal.JOB_NOT_FOUND, f"there is no job {job_id}")
