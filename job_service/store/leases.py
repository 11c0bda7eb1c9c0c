"""Statements on leases that hold: renew, report. Each checks the lease token in the same statement.

Statements over several jobs lock them in the order of their ids, so that none deadlocks another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from job_service.store.database import (
    COMMITTED_SOON,
    Database,
    as_json,
    committed_soon_unless,
    statement,
)
from job_service.store.joined import Joined
from job_service.store.lease_key import LeaseKey, as_interval, numbered

# Renews the leases listed and marks the workers as alive. Answers every lease that the workers
# hold, also those they did not list.
_RENEW: Final = statement(f"""
WITH beat AS MATERIALIZED (
    SELECT b.* FROM {COMMITTED_SOON}, jsonb_to_recordset(CAST(:beats AS jsonb))
        AS b (n integer, worker_id bigint, draining boolean)
), listed AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:leases AS jsonb))
        AS l (n integer, job_id bigint, lease_token uuid)
), alive AS (
    UPDATE workers SET last_beat_at = now(), draining = beat.draining
    FROM beat WHERE workers.id = beat.worker_id
), held AS MATERIALIZED (
    SELECT job.id, job.lease_token, job.cancel_requested_at IS NOT NULL AS cancel, listed.n
    FROM listed JOIN generation_jobs AS job
        ON job.id = listed.job_id AND job.lease_token = listed.lease_token
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
), renewed AS (
    UPDATE generation_jobs AS job SET lease_expires_at = now() + :ttl
    FROM held WHERE job.id = held.id
)
SELECT n, id AS job_id, lease_token, cancel, true AS listed FROM held
UNION ALL
SELECT beat.n, job.id, job.lease_token, job.cancel_requested_at IS NOT NULL, false
FROM beat JOIN generation_jobs AS job ON job.worker_id = beat.worker_id AND job.status = 'running'
WHERE NOT EXISTS (
    SELECT FROM listed WHERE listed.job_id = job.id AND listed.lease_token = job.lease_token
)
""")

# Looks at the leases of workers without renewing them.
_VERDICTS: Final = statement("""
SELECT id AS job_id, lease_token, cancel_requested_at IS NOT NULL AS cancel, true AS listed
FROM generation_jobs WHERE worker_id = :worker_id AND status = 'running'
""")

# `running_for` turns into a start time on the database's clock, once.
#
# Only what is progress and nothing else may be lost in a crash. The rest is a new revision of the
# job: that would be given again, to another state, which would be taken for known.
_PROGRESS: Final = statement(f"""
WITH report AS MATERIALIZED (
    SELECT r.* FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        n integer, job_id bigint, lease_token uuid, progress jsonb, running_for interval,
        prompt_id text
    )
), latest AS MATERIALIZED (
    -- several reports on one lease may have gathered
    SELECT job_id, lease_token, (array_agg(progress ORDER BY n DESC))[1] AS progress,
        max(running_for) AS running_for,
        (array_agg(prompt_id ORDER BY n DESC) FILTER (WHERE prompt_id <> ''))[1] AS prompt_id
    FROM report GROUP BY job_id, lease_token
), held AS MATERIALIZED (
    SELECT job.id, latest.*,
        job.started_at IS NULL AND latest.running_for IS NOT NULL
            OR latest.prompt_id <> coalesce(job.comfyui_prompt_id, '') AS is_more_than_progress
    FROM latest JOIN generation_jobs AS job
        ON job.id = latest.job_id AND job.lease_token = latest.lease_token
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
), job AS (
    UPDATE generation_jobs AS job SET
        progress = held.progress || jsonb_build_object('attempt', job.attempt),
        started_at = CASE
            WHEN job.started_at IS NULL AND held.running_for IS NOT NULL
            THEN greatest(job.created_at, now() - held.running_for)
            ELSE job.started_at
        END,
        comfyui_prompt_id = coalesce(held.prompt_id, job.comfyui_prompt_id)
    FROM held WHERE job.id = held.id
    RETURNING job.id AS job_id, job.attempt, job.cancel_requested_at IS NOT NULL AS cancel,
        job.started_at, job.lease_token, job.comfyui_prompt_id
), attempt AS (
    UPDATE job_attempts AS attempt
    SET started_at = job.started_at, prompt_id = job.comfyui_prompt_id
    FROM job WHERE attempt.lease_token = job.lease_token
        AND (attempt.started_at, attempt.prompt_id)
            IS DISTINCT FROM (job.started_at, job.comfyui_prompt_id)
)
SELECT report.n, job.attempt, job.cancel
FROM report JOIN job USING (job_id, lease_token),
    {committed_soon_unless("EXISTS (SELECT FROM held WHERE is_more_than_progress)")}
""")


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker says that it is alive and which leases it works on."""

    worker_id: int
    draining: bool
    leases: Sequence[LeaseKey]


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease that a worker holds; ``listed`` if the worker named it."""

    lease: LeaseKey
    cancel: bool
    listed: bool


@dataclass(frozen=True, slots=True)
class ProgressWrite:
    """What is written down of a progress report. ``progress`` is protobuf JSON."""

    lease: LeaseKey
    progress: dict[str, Any]
    running_for: timedelta | None
    prompt_id: str


@dataclass(frozen=True, slots=True)
class WrittenProgress:
    """The lease still holds: number of its attempt, and whether a cancel was asked for."""

    attempt: int
    cancel: bool


class LeaseStore:
    """Leases in the table. Calls of one kind that arrive together share a statement."""

    def __init__(self, database: Database, ttl: timedelta) -> None:
        self._database = database
        self._ttl = ttl
        self.beat = Joined(self._beat)
        self.write_progress = Joined(self._write_progress)

    async def held_by(self, worker_id: int) -> list[HeldLease]:
        """Every lease a worker holds, none renewed."""
        rows = await self._database.rows(_VERDICTS, {"worker_id": worker_id})
        return [
            HeldLease(LeaseKey(row.job_id, row.lease_token), row.cancel, row.listed) for row in rows
        ]

    async def _beat(self, beats: Sequence[Beat]) -> Sequence[list[HeldLease] | Exception]:
        answers: list[list[HeldLease] | Exception] = [[] for _ in beats]
        rows = await self._database.rows(
            _RENEW,
            {
                "beats": as_json(
                    [
                        {"n": n, "worker_id": beat.worker_id, "draining": beat.draining}
                        for n, beat in enumerate(beats)
                    ]
                ),
                "leases": as_json(
                    [
                        {"n": n, "job_id": lease.job_id, "lease_token": lease.token}
                        for n, beat in enumerate(beats)
                        for lease in beat.leases
                    ]
                ),
                "ttl": self._ttl,
            },
        )
        for row in rows:
            held = answers[row.n]
            assert isinstance(held, list)
            held.append(HeldLease(LeaseKey(row.job_id, row.lease_token), row.cancel, row.listed))
        return answers

    async def _write_progress(
        self, writes: Sequence[ProgressWrite]
    ) -> Sequence[WrittenProgress | Exception | None]:
        rows = await self._database.rows(
            _PROGRESS,
            {
                "rows": as_json(
                    [
                        {
                            **numbered(n, write.lease),
                            "progress": write.progress,
                            "running_for": as_interval(write.running_for),
                            "prompt_id": write.prompt_id,
                        }
                        for n, write in enumerate(writes)
                    ]
                )
            },
        )
        held = {row.n: WrittenProgress(row.attempt, row.cancel) for row in rows}
        return [held.get(n) for n in range(len(writes))]
