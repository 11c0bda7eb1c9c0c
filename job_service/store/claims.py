"""The statements by which workers get jobs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from job_service.store.database import Database, Row, as_json, statement
from job_service.store.lease_key import LeaseKey
from job_service.store.tables import JOB_COLUMNS_SQL, JobRow

# What could be leased now: the first jobs of each route key that some waiting ComfyUI can run, and
# jobs whose last worker died with the prompt in one of these ComfyUIs (`adopter`). Each key is one
# short range of one partial index: jobs that nobody here can run are never touched.
#
# Also leases that one of these calls was given before: then it is a repeated call.
_LOOK: Final = """
offer AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:offers AS jsonb))
        AS o (route_key integer, wanted integer)
), peeked AS MATERIALIZED (
    SELECT job.*, NULL AS adopter, NULL AS request_id, CAST(NULL AS bigint) AS worker_id
    FROM offer CROSS JOIN LATERAL (
        SELECT id, priority, virtual_start, route_key FROM generation_jobs
        WHERE status = 'pending' AND dispatchable AND route_key = offer.route_key
            AND (adopt_until IS NULL OR adopt_until <= now())
            AND (expires_at IS NULL OR expires_at > now() OR started_at IS NOT NULL)
            AND id <> ALL(CAST(:without AS bigint[]))
        ORDER BY priority DESC, virtual_start, id
        LIMIT offer.wanted
    ) AS job
    UNION ALL (
        SELECT id, priority, virtual_start, route_key, backend, NULL, NULL FROM generation_jobs
        WHERE status = 'pending' AND dispatchable
            AND adopt_until > now() AND backend = ANY(:backends)
            AND (expires_at IS NULL OR expires_at > now() OR started_at IS NOT NULL)
            AND id <> ALL(CAST(:without AS bigint[]))
        ORDER BY priority DESC, virtual_start, id
        LIMIT :most
    )
    UNION ALL
    SELECT id, priority, virtual_start, route_key, NULL, lease_request_id, worker_id
    FROM generation_jobs
    WHERE status = 'running'
        AND worker_id = ANY(:worker_ids) AND lease_request_id = ANY(:request_ids)
)
"""

_PEEK: Final = statement(f"WITH {_LOOK} SELECT * FROM peeked")

# Attempts whose prompts may still be in the ComfyUI that has the job now, newest first.
_PRIOR_ATTEMPTS: Final = """
CASE WHEN job.attempt > 1 THEN ARRAY(
    SELECT prior.attempt FROM job_attempts AS prior
    WHERE prior.job_id = job.id AND prior.attempt < job.attempt AND prior.backend = job.backend
        AND prior.outcome IN ('lease_expired', 'superseded', 'released')
    ORDER BY prior.attempt DESC
) ELSE '{}' END AS prior_attempts
"""

# One statement leases to everybody who waits at this replica. Rows are locked in a CTE and updated
# by join; the lock skips what others hold, so that nobody waits. A job that another replica has
# just taken is missing from the answer.
_SLOTS: Final = """
SELECT * FROM jsonb_to_recordset(CAST(:slots AS jsonb)) AS s (
    slot integer, job_id bigint, worker_id bigint, worker text, instance_id uuid,
    backend text, lease_token uuid, lease_request_id text
)
"""

_LEASE: Final = f"""
held AS MATERIALIZED (
    SELECT slot.* FROM slot JOIN generation_jobs AS job ON job.id = slot.job_id
    WHERE job.status = 'pending' AND job.dispatchable
        AND (job.adopt_until IS NULL OR job.adopt_until <= now() OR job.backend = slot.backend)
    ORDER BY job.id
    FOR NO KEY UPDATE OF job SKIP LOCKED
), job AS (
    UPDATE generation_jobs AS job SET
        status = 'running',
        dispatchable = false,
        adopt_until = NULL,
        not_before = NULL,
        attempt = attempt + 1,
        lease_token = held.lease_token,
        lease_request_id = held.lease_request_id,
        worker_id = held.worker_id,
        backend = held.backend,
        leased_at = now(),
        lease_expires_at = now() + :ttl,
        started_at = NULL,
        comfyui_prompt_id = NULL,
        progress = NULL
    FROM held WHERE job.id = held.job_id
    RETURNING job.*, held.slot, held.worker, held.instance_id
), recorded AS (
    INSERT INTO job_attempts (job_id, attempt, lease_token, worker, instance_id, backend)
    SELECT id, attempt, lease_token, worker, instance_id, backend FROM job
), reached AS (
    INSERT INTO dispatch_clocks (priority, virtual_time)
    SELECT priority, max(virtual_start) FROM job GROUP BY priority ORDER BY priority
    ON CONFLICT (priority) DO UPDATE
    SET virtual_time = greatest(dispatch_clocks.virtual_time, excluded.virtual_time)
)
SELECT job.slot, job.lease_token, {JOB_COLUMNS_SQL}, {_PRIOR_ATTEMPTS} FROM job
"""

_CLAIM: Final = statement(f"WITH slot AS MATERIALIZED ({_SLOTS}), {_LEASE}")

# A look and a claim at once: leases the job unless there is anything else to see.
_CLAIM_LONE: Final = statement(f"""
WITH {_LOOK}, slot AS MATERIALIZED (
    {_SLOTS} WHERE (SELECT array_agg(id) FROM peeked) = ARRAY[s.job_id]
), {_LEASE}
""")

_HELD: Final = statement(f"""
SELECT job.lease_token, {JOB_COLUMNS_SQL}, {_PRIOR_ATTEMPTS}
FROM generation_jobs AS job WHERE id = ANY(:ids) AND status = 'running'
""")


@dataclass(frozen=True, slots=True)
class Peeked:
    """A job that can be leased now, as far as its place in the queue goes."""

    id: int
    priority: int
    virtual_start: int
    route_key: int
    adopter: str | None


@dataclass(frozen=True, slots=True)
class Queue:
    """The part of the queue that waiting workers could run.

    ``replayed``: jobs that were leased to an earlier try of a waiting call, by
    (worker id, request id).
    """

    jobs: Sequence[Peeked]
    replayed: Mapping[tuple[int, str], Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A job that shall be leased, and the place in a ComfyUI of a waiting worker it goes to."""

    slot: int
    job_id: int
    worker_id: int
    worker: str
    instance_id: UUID
    backend: str
    lease_token: UUID
    lease_request_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is leased.

    ``prior_attempts`` are those whose prompts may still be in that ComfyUI, newest first.
    """

    lease: LeaseKey
    job: JobRow
    prior_attempts: Sequence[int]


_SLOT_FIELDS: Final = tuple(field.name for field in fields(Slot))


async def peek(
    database: Database,
    offers: Mapping[int, int],
    *,
    backends: Sequence[str],
    calls: Sequence[tuple[int, str]],
    without: Collection[int],
) -> Queue:
    """Look at the head of the queue.

    ``offers``: for each route key how many jobs are wanted. ``backends``: the ComfyUIs, for
    adoption. ``calls``: (worker id, request id) of each call that waits. ``without``: ids of
    jobs to look past.
    """
    rows = await database.rows(_PEEK, _look(offers, backends, calls, without))
    replayed: dict[tuple[int, str], list[int]] = {}
    for row in rows:
        if row.request_id is not None:
            replayed.setdefault((row.worker_id, row.request_id), []).append(row.id)
    jobs = [
        Peeked(row.id, row.priority, row.virtual_start, row.route_key, row.adopter)
        for row in rows
        if row.request_id is None
    ]
    return Queue(jobs, replayed)


async def claim(database: Database, slots: Sequence[Slot], ttl: timedelta) -> dict[int, Claim]:
    """Lease jobs: slot → its claim. Those that others were quicker to take are missing."""
    rows = await database.rows(_CLAIM, _slots(slots, ttl))
    return {row.slot: _claim(row) for row in rows}


async def claim_lone(
    database: Database,
    slot: Slot,
    ttl: timedelta,
    *,
    route_keys: Collection[int],
    backends: Sequence[str],
    calls: Sequence[tuple[int, str]],
) -> Claim | None:
    """Lease a job if it is all that :func:`peek` would find; None: look, then decide."""
    look = _look(dict.fromkeys(route_keys, 2), backends, calls, ())
    row = await database.row(_CLAIM_LONE, look | _slots([slot], ttl))
    return None if row is None else _claim(row)


async def held(database: Database, job_ids: Sequence[int]) -> dict[int, Claim]:
    """Leases that hold, by job."""
    rows = await database.rows(_HELD, {"ids": list(job_ids)})
    return {row.id: _claim(row) for row in rows}


def _look(
    offers: Mapping[int, int],
    backends: Sequence[str],
    calls: Sequence[tuple[int, str]],
    without: Collection[int],
) -> dict[str, Any]:
    return {
        "offers": as_json([{"route_key": key, "wanted": wanted} for key, wanted in offers.items()]),
        "backends": list(backends),
        "most": max(offers.values(), default=1),
        "worker_ids": [worker_id for worker_id, _ in calls],
        "request_ids": [request_id for _, request_id in calls],
        "without": list(without),
    }


def _slots(slots: Sequence[Slot], ttl: timedelta) -> dict[str, Any]:
    rows = [{name: getattr(slot, name) for name in _SLOT_FIELDS} for slot in slots]
    return {"slots": as_json(rows), "ttl": ttl}


def _claim(row: Row) -> Claim:
    return Claim(LeaseKey(row.id, row.lease_token), JobRow.of(row), row.prior_attempts)
