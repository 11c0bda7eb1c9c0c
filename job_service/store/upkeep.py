"""Statements of the upkeep loop: what is due, late or overdue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from generation_jobs.v1 import job_error_pb2

from job_service.jobs.error_policy import error_of
from job_service.store.admission import UserCaps
from job_service.store.database import Database, as_json, statement
from job_service.store.fair_share import tagging
from job_service.store.lease_key import LeaseKey
from job_service.store.outcomes import error_as_json
from job_service.store.tally import UNCOUNTED, Tally

# Jobs back from a failed attempt keep their tag and with it their place; scheduled ones get theirs
# now, so that they do not run ahead of everybody who came while they waited for their time.
_PROMOTE: Final = statement(f"""
WITH due AS MATERIALIZED (
    SELECT id, user_id, priority, virtual_start, coalesce((
        SELECT max_running FROM user_shares AS share WHERE share.user_id = job.user_id
    ), CAST(:max_running AS integer)) IS NOT NULL AND job.user_id IS NOT NULL AS capped
    FROM generation_jobs AS job
    WHERE status = 'pending' AND NOT dispatchable AND not_before <= now()
    ORDER BY id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
), {tagging("SELECT id, user_id, priority FROM due WHERE virtual_start IS NULL AND NOT capped")}
UPDATE generation_jobs AS job
SET dispatchable = NOT due.capped, not_before = NULL,
    virtual_start = coalesce(due.virtual_start, tagged.virtual_start)
FROM due LEFT JOIN tagged USING (id) WHERE job.id = due.id
RETURNING job.id
""")

_EXPIRE: Final = statement("""
WITH late AS MATERIALIZED (
    SELECT id FROM generation_jobs
    WHERE status = 'pending' AND expires_at <= now() AND started_at IS NULL
    ORDER BY id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE generation_jobs AS job SET
    status = 'failed', completed_at = now(), dispatchable = false, adopt_until = NULL,
    error = CAST(:error AS jsonb), error_message = CAST(:error AS jsonb) ->> 'message'
FROM late WHERE job.id = late.id
RETURNING job.id
""")

# One look at everything that time alone brings about, so that an idle service asks seldom.
_OUTLOOK: Final = statement("""
SELECT
    EXISTS (
        SELECT FROM generation_jobs
        WHERE status = 'pending' AND NOT dispatchable AND not_before <= now()
    ) AS due,
    EXISTS (
        SELECT FROM generation_jobs
        WHERE status = 'pending' AND expires_at <= now() AND started_at IS NULL
    ) AS late,
    (
        SELECT jsonb_agg(jsonb_build_array(id, lease_token, worker, lease_expired))
        FROM (
            SELECT job.id, job.lease_token, worker.name AS worker,
                job.lease_expires_at <= now() AS lease_expired
            FROM generation_jobs AS job JOIN workers AS worker ON worker.id = job.worker_id
            WHERE job.status = 'running' AND (
                job.lease_expires_at <= now() OR job.started_at + job.attempt_timeout <= now()
            )
            ORDER BY job.id LIMIT :most
        ) AS lapsed
    ) AS overdue,
    least(
        (SELECT min(not_before) FROM generation_jobs
            WHERE status = 'pending' AND NOT dispatchable AND not_before > now()),
        (SELECT min(expires_at) FROM generation_jobs
            WHERE status = 'pending' AND expires_at > now() AND started_at IS NULL)
    ) - now() AS next_due_in
""")


@dataclass(frozen=True, slots=True)
class OverdueLease:
    """A running job whose lease has run out (else its attempt has run too long)."""

    lease: LeaseKey
    worker: str
    lease_expired: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """Whether pending jobs are due or late, which leases are overdue.

    ``next_due_in``: how long until another pending job becomes due or expires; None: none will.
    """

    due: bool
    late: bool
    overdue: Sequence[OverdueLease]
    next_due_in: timedelta | None


class UpkeepStore:
    """What the upkeep loop asks of the table. Safe to run in every replica at once."""

    def __init__(self, database: Database, caps: UserCaps, tally: Tally = UNCOUNTED) -> None:
        self._database = database
        self._caps = caps
        self._tally = tally

    async def promote_due(self, most: int = 500) -> list[int]:
        """Make pending jobs whose time has come dispatchable, or parked; their ids."""
        rows = await self._database.rows(
            _PROMOTE, {"most": most, "max_running": self._caps.max_running}
        )
        return [row.id for row in rows]

    async def expire_late(self, most: int = 500) -> list[int]:
        """Fail pending jobs that have not started in time; their ids."""
        error = as_json(error_as_json(error_of(job_error_pb2.ERROR_CODE_EXPIRED)))
        rows = await self._database.rows(_EXPIRE, {"most": most, "error": error})
        self._tally.jobs_ended("failed", "ERROR_CODE_EXPIRED", len(rows))
        return [row.id for row in rows]

    async def outlook(self, most: int = 500) -> Outlook:
        """What there is to do now, and when there will be more."""
        row = await self._database.row(_OUTLOOK, {"most": most})
        assert row is not None, "the statement answers one row"
        overdue = [
            OverdueLease(LeaseKey(job_id, UUID(token)), worker, lease_expired)
            for job_id, token, worker, lease_expired in row.overdue or ()
        ]
        return Outlook(row.due, row.late, overdue, row.next_due_in)
