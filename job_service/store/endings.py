"""The statement by which an attempt ends without success. It checks the lease token itself.

Jobs are locked in the order of their ids, so that no such statement deadlocks another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from generation_jobs.v1 import job_error_pb2

from job_service.jobs.error_policy import FORGIVEN_ATTEMPTS
from job_service.store.database import Database, as_json, statement
from job_service.store.joined import Joined
from job_service.store.lease_key import LeaseKey, as_interval, numbered
from job_service.store.outcomes import Ended, Outcomes, error_as_json
from job_service.store.tally import UNCOUNTED, Tally

# Every end but completion, in one statement, because they decide alike: after a cancel the job is
# CANCELLED; else it goes back to the queue if another attempt may help and the budget allows,
# keeping its place; else it has FAILED.
#
# `delay` null: exponential backoff with full jitter, 5 s to 10 min.
# `only_expired`: a lease renewed since the service looked is left alone.
_END: Final = statement("""
WITH ending AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        n integer, job_id bigint, lease_token uuid, outcome text, reported_by text, retry boolean,
        charge boolean, forgivable boolean, delay interval, adopt_for interval, error jsonb,
        only_expired boolean
    )
), held AS MATERIALIZED (
    SELECT job.id, ending.*, job.attempts_charged, job.attempts_forgiven, job.max_attempts,
        job.cancel_requested_at,
        ending.charge AND NOT (ending.forgivable AND job.attempts_forgiven < :forgiven) AS charged,
        ending.charge AND ending.forgivable AND job.attempts_forgiven < :forgiven AS forgiven
    FROM ending JOIN generation_jobs AS job
        ON job.id = ending.job_id AND job.lease_token = ending.lease_token
    WHERE NOT ending.only_expired OR job.lease_expires_at <= now()
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
), decided AS MATERIALIZED (
    -- only from what was locked: the table itself is still seen as it was before the lock
    SELECT held.*,
        CASE
            WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
            WHEN NOT retry THEN 'failed'
            WHEN attempts_charged + CAST(charged AS integer) < max_attempts THEN 'pending'
            ELSE 'failed'
        END AS status,
        coalesce(
            delay,
            interval '1 second' * greatest(
                1, random() * least(600, 5 * 2 ^ (attempts_charged + attempts_forgiven))
            )
        ) AS pause
    FROM held
), job AS (
    UPDATE generation_jobs AS job SET
        status = decided.status,
        completed_at = CASE WHEN decided.status <> 'pending' THEN now() END,
        not_before = CASE
            WHEN decided.status = 'pending' AND decided.pause > interval '0'
            THEN now() + decided.pause
        END,
        dispatchable = decided.status = 'pending' AND decided.pause <= interval '0',
        adopt_until = CASE
            -- who gives back a prompt that does not run yet has taken it out of ComfyUI's queue
            WHEN decided.status = 'pending' AND decided.pause <= interval '0'
                AND (decided.outcome <> 'released' OR job.started_at IS NOT NULL)
            THEN now() + decided.adopt_for
        END,
        attempts_charged = job.attempts_charged + CAST(decided.charged AS integer),
        attempts_forgiven = job.attempts_forgiven + CAST(decided.forgiven AS integer),
        lease_token = NULL,
        lease_expires_at = NULL,
        worker_id = NULL,
        progress = NULL,
        error = CASE
            WHEN decided.status = 'failed' AND decided.retry
            THEN decided.error || '{"attempts_exhausted": true}'
            ELSE coalesce(decided.error, job.error)
        END,
        error_message = coalesce(decided.error ->> 'message', job.error_message)
    FROM decided WHERE job.id = decided.id
    RETURNING decided.n, decided.lease_token, job.status, decided.outcome, decided.charged,
        decided.error, decided.reported_by, job.delete_when_ended, job.checkpoint_model,
        job.leased_at, job.started_at
), attempt AS (
    UPDATE job_attempts AS attempt SET
        ended_at = now(),
        outcome = CASE job.status WHEN 'cancelled' THEN 'cancelled' ELSE job.outcome END,
        status_after = job.status, reported_by = job.reported_by, charged = job.charged,
        error = job.error
    FROM job WHERE attempt.lease_token = job.lease_token
)
SELECT n, status, status <> 'pending' AND delete_when_ended AS deleting, outcome,
    error ->> 'code' AS error_code, checkpoint_model, now() - leased_at AS leased,
    now() - started_at AS ran
FROM job
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """An attempt has ended without success.

    ``reported_by`` is the call that says so, None when the service itself does. ``delay`` None:
    exponential backoff. ``adopt_for``: how long only the same ComfyUI may take the job next.
    """

    lease: LeaseKey
    outcome: str
    reported_by: str | None
    retry: bool
    charge: bool
    forgivable: bool = False
    delay: timedelta | None = None
    adopt_for: timedelta | None = None
    error: job_error_pb2.JobError | None = None
    only_expired: bool = False


def given_back(lease: LeaseKey) -> Ending:
    """The service itself returns a job to the queue, uncharged and at once."""
    return Ending(
        lease=lease,
        outcome="released",
        reported_by=None,
        retry=True,
        charge=False,
        delay=timedelta(),
    )


class EndingStore:
    """Ends attempts. Calls that arrive together share a statement."""

    def __init__(self, database: Database, tally: Tally = UNCOUNTED) -> None:
        self._database = database
        self._outcomes = Outcomes(database, tally)
        self.end = Joined(self._end)

    async def _end(self, endings: Sequence[Ending]) -> Sequence[Ended | Exception]:
        rows = [
            {
                **numbered(n, ending.lease),
                "outcome": ending.outcome,
                "reported_by": ending.reported_by,
                "retry": ending.retry,
                "charge": ending.charge,
                "forgivable": ending.forgivable,
                "delay": as_interval(ending.delay),
                "adopt_for": as_interval(ending.adopt_for),
                "error": error_as_json(ending.error) if ending.error else None,
                "only_expired": ending.only_expired,
            }
            for n, ending in enumerate(endings)
        ]
        answers = await self._database.rows(
            _END, {"rows": as_json(rows), "forgiven": FORGIVEN_ATTEMPTS}
        )
        return await self._outcomes.ended(rows, answers)
