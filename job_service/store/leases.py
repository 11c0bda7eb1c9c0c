"""Statements on leases: renew, report, end. Each checks the lease token in the same statement.

Statements over several jobs lock them in the order of their ids, so that none deadlocks another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from generation_jobs.v1 import job_error_pb2
from google.protobuf import json_format

from job_service.jobs.error_policy import FORGIVEN_ATTEMPTS
from job_service.store.database import COMMITTED_SOON, Database, Row, as_json, statement
from job_service.store.joined import Joined
from job_service.store.tally import UNCOUNTED, AttemptEnd, Tally

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
_PROGRESS: Final = statement(f"""
WITH report AS MATERIALIZED (
    SELECT r.* FROM {COMMITTED_SOON}, jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
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
    SELECT job.id, latest.* FROM latest JOIN generation_jobs AS job
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
SELECT report.n, job.attempt, job.cancel FROM report JOIN job USING (job_id, lease_token)
""")

_COMPLETE: Final = statement("""
WITH report AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        n integer, job_id bigint, lease_token uuid, artifact_ids bigint[], put_ids bigint[],
        running_for interval, prompt_id text
    )
), unstored AS MATERIALIZED (
    SELECT report.n FROM report
    WHERE EXISTS (
        SELECT FROM unnest(report.artifact_ids || report.put_ids) AS wanted (id)
        WHERE NOT EXISTS (
            SELECT FROM job_artifacts AS artifact JOIN job_attempts AS attempt
                ON attempt.job_id = artifact.job_id AND attempt.attempt = artifact.attempt
            WHERE artifact.id = wanted.id AND attempt.lease_token = report.lease_token
                AND (artifact.stored_at IS NOT NULL OR wanted.id = ANY(report.put_ids))
        )
    )
), held AS MATERIALIZED (
    SELECT job.id, report.* FROM report JOIN generation_jobs AS job
        ON job.id = report.job_id AND job.lease_token = report.lease_token
    WHERE report.n NOT IN (SELECT n FROM unstored)
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
), put AS MATERIALIZED (
    -- in the order of every statement that locks artifacts
    SELECT artifact.id FROM held JOIN job_artifacts AS artifact ON artifact.id = ANY(held.put_ids)
    ORDER BY artifact.job_id, artifact.role, artifact.position, artifact.thumbnail_size
    FOR NO KEY UPDATE OF artifact
), stored AS (
    UPDATE job_artifacts AS artifact SET stored_at = now() FROM put WHERE artifact.id = put.id
), job AS (
    UPDATE generation_jobs AS job SET
        status = 'completed',
        completed_at = now(),
        started_at = CASE
            WHEN job.started_at IS NULL AND held.running_for IS NOT NULL
            THEN greatest(job.created_at, now() - held.running_for)
            ELSE job.started_at
        END,
        comfyui_prompt_id = coalesce(nullif(held.prompt_id, ''), job.comfyui_prompt_id),
        lease_token = NULL,
        lease_expires_at = NULL,
        worker_id = NULL,
        progress = NULL,
        error = NULL,
        error_message = NULL
    FROM held WHERE job.id = held.id
    RETURNING held.n, held.lease_token, job.started_at, job.comfyui_prompt_id,
        job.delete_when_ended, job.checkpoint_model, job.leased_at
), attempt AS (
    UPDATE job_attempts AS attempt SET
        ended_at = now(), outcome = 'completed', status_after = 'completed',
        reported_by = 'complete', started_at = job.started_at, prompt_id = job.comfyui_prompt_id
    FROM job WHERE attempt.lease_token = job.lease_token
)
SELECT n, 'completed' AS status, delete_when_ended AS deleting, 'completed' AS outcome,
    NULL AS error_code, checkpoint_model, now() - leased_at AS leased, now() - started_at AS ran
FROM job
UNION ALL
SELECT report.n, 'unstored', false, NULL, NULL, NULL, NULL, NULL
FROM report JOIN unstored USING (n) JOIN generation_jobs AS job
    ON job.id = report.job_id AND job.lease_token = report.lease_token
""")

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

# What the same report has recorded before. A statement of its own, because the one that found the
# lease ended cannot see who ended it while it waited for the row.
_RECORDED: Final = statement("""
SELECT report.n, attempt.status_after AS status
FROM jsonb_to_recordset(CAST(:rows AS jsonb))
    AS report (n integer, job_id bigint, lease_token uuid, reported_by text)
JOIN job_attempts AS attempt USING (job_id, lease_token, reported_by)
""")


#: In place of a state: see ``Ended``.
UNSTORED: Final = "unstored"


class LeaseEndedError(Exception):
    """The lease has ended."""


@dataclass(frozen=True, slots=True)
class LeaseKey:
    """Names one lease."""

    job_id: int
    token: UUID


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


@dataclass(frozen=True, slots=True)
class Completion:
    """An attempt has succeeded.

    ``put_ids``: artifacts that are announced, and whose objects have been put. They count as stored
    from now on.
    """

    lease: LeaseKey
    artifact_ids: Sequence[int]
    running_for: timedelta | None
    prompt_id: str
    put_ids: Sequence[int] = ()


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


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of the job: its state, and whether this call changed it.

    ``status`` None: the lease had ended before, otherwise. UNSTORED: a completion names an
    artifact that is not stored, and changed nothing. ``deleting``: it is to be deleted now.
    """

    status: str | None
    changed: bool
    deleting: bool


class LeaseStore:
    """Leases in the table. Calls of one kind that arrive together share a statement."""

    def __init__(self, database: Database, ttl: timedelta, tally: Tally = UNCOUNTED) -> None:
        self._database = database
        self._ttl = ttl
        self._tally = tally
        self.beat = Joined(self._beat)
        self.write_progress = Joined(self._write_progress)
        self.complete = Joined(self._complete)
        self.end = Joined(self._end)

    async def held_by(self, worker_id: int) -> list[HeldLease]:
        """Every lease a worker holds, none renewed."""
        rows = await self._database.rows(_VERDICTS, {"worker_id": worker_id})
        return [
            HeldLease(LeaseKey(row.job_id, row.lease_token), row.cancel, row.listed) for row in rows
        ]

    async def completed_before(self, lease: LeaseKey) -> Ended:
        """What a completion has recorded of a lease that has ended."""
        (ended,) = await self._ended([_lease(0, lease) | {"reported_by": "complete"}], ())
        return ended

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
                            **_lease(n, write.lease),
                            "progress": write.progress,
                            "running_for": _interval(write.running_for),
                            "prompt_id": write.prompt_id,
                        }
                        for n, write in enumerate(writes)
                    ]
                )
            },
        )
        held = {row.n: WrittenProgress(row.attempt, row.cancel) for row in rows}
        return [held.get(n) for n in range(len(writes))]

    async def _complete(self, completions: Sequence[Completion]) -> Sequence[Ended | Exception]:
        rows = [
            {
                **_lease(n, completion.lease),
                "reported_by": "complete",
                "artifact_ids": list(completion.artifact_ids),
                "put_ids": list(completion.put_ids),
                "running_for": _interval(completion.running_for),
                "prompt_id": completion.prompt_id,
            }
            for n, completion in enumerate(completions)
        ]
        answers = await self._database.rows(_COMPLETE, {"rows": as_json(rows)})
        return await self._ended(rows, answers)

    async def _end(self, endings: Sequence[Ending]) -> Sequence[Ended | Exception]:
        rows = [
            {
                **_lease(n, ending.lease),
                "outcome": ending.outcome,
                "reported_by": ending.reported_by,
                "retry": ending.retry,
                "charge": ending.charge,
                "forgivable": ending.forgivable,
                "delay": _interval(ending.delay),
                "adopt_for": _interval(ending.adopt_for),
                "error": error_as_json(ending.error) if ending.error else None,
                "only_expired": ending.only_expired,
            }
            for n, ending in enumerate(endings)
        ]
        answers = await self._database.rows(
            _END, {"rows": as_json(rows), "forgiven": FORGIVEN_ATTEMPTS}
        )
        return await self._ended(rows, answers)

    async def _ended(
        self, rows: Sequence[Mapping[str, Any]], answers: Sequence[Row]
    ) -> list[Ended]:
        """What became of each report; those without an answer may repeat an earlier one."""
        ended = {
            row.n: Ended(row.status, changed=row.status != UNSTORED, deleting=row.deleting)
            for row in answers
        }
        for row in answers:
            if row.status != UNSTORED:
                self._count(row)
        others = [
            {key: row[key] for key in ("n", "job_id", "lease_token", "reported_by")}
            for row in rows
            if row["n"] not in ended
        ]
        if others:
            for row in await self._database.rows(_RECORDED, {"rows": as_json(others)}):
                ended[row.n] = Ended(row.status, changed=False, deleting=False)
        lost = Ended(None, changed=False, deleting=False)
        return [ended.get(n, lost) for n in range(len(rows))]

    def _count(self, row: Row) -> None:
        error_code = row.error_code or ""
        self._tally.attempt_ended(
            AttemptEnd(
                outcome="cancelled" if row.status == "cancelled" else row.outcome,
                status=row.status,
                error_code=error_code,
                checkpoint=row.checkpoint_model or "",
                leased=row.leased.total_seconds(),
                ran=None if row.ran is None else row.ran.total_seconds(),
            )
        )
        if row.status != "pending":
            failed = row.status == "failed"
            self._tally.jobs_ended(row.status, error_code if failed else "")


def error_as_json(error: job_error_pb2.JobError) -> dict[str, Any]:
    """An error as it is stored: protobuf JSON with the contract's field names."""
    stored: dict[str, Any] = json_format.MessageToDict(error, preserving_proto_field_name=True)
    return stored


def _lease(n: int, lease: LeaseKey) -> dict[str, Any]:
    return {"n": n, "job_id": lease.job_id, "lease_token": lease.token}


def _interval(span: timedelta | None) -> str | None:
    return None if span is None else f"{span // timedelta(microseconds=1)} microseconds"
