"""The statement by which workers get jobs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from job_service.store.database import Database, as_json, statement
from job_service.store.tables import JOB_COLUMNS_SQL, JobRow

# One statement claims for every waiting worker of this replica.
#
# `slot` has a row for each job that some ComfyUI could take now; slots whose ComfyUIs serve the
# same route keys form a group `grp`. `offer` names the keys of each group.
#
# First, jobs whose last worker died with the prompt in a ComfyUI go to that ComfyUI alone
# (`adoption`). Then the heads of each group's keys are merged in queue order and dealt out to the
# slots that are left. A job at the head of two groups goes to the first; the other gets its turn
# in the next statement.
#
# Rows are locked in CTEs and updated by join: with `WHERE id IN (… LIMIT n)` the planner may run
# the subquery again and claim more than n. The locks skip what others hold, so nobody waits.
_CLAIM: Final = statement(f"""
WITH slot AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:slots AS jsonb)) AS s (
        slot integer, grp integer, worker_id bigint, worker text, instance_id uuid, backend text,
        lease_token uuid, lease_request_id text
    )
), offer AS MATERIALIZED (
    SELECT grp, route_key, wanted
    FROM jsonb_to_recordset(CAST(:offers AS jsonb))
        AS o (grp integer, route_keys integer[], wanted integer),
        unnest(o.route_keys) AS route_key
), adoptable AS MATERIALIZED (
    SELECT id, backend, route_key, priority, virtual_start FROM generation_jobs
    WHERE status = 'pending' AND adopt_until > now() AND dispatchable
        AND backend = ANY(ARRAY(SELECT DISTINCT backend FROM slot))
    ORDER BY priority DESC, virtual_start, id
    LIMIT (SELECT count(*) FROM slot)
    FOR UPDATE SKIP LOCKED
), adoption AS MATERIALIZED (
    SELECT ranked.id, taken.slot
    FROM (
        SELECT id, backend, row_number() OVER (
            PARTITION BY backend ORDER BY priority DESC, virtual_start, id
        ) AS place FROM adoptable
    ) AS ranked
    JOIN (
        SELECT slot, backend, row_number() OVER (PARTITION BY backend ORDER BY slot) AS place
        FROM slot
    ) AS taken USING (backend, place)
), head AS MATERIALIZED (
    SELECT offer.grp, job.*
    FROM offer CROSS JOIN LATERAL (
        SELECT id, priority, virtual_start FROM generation_jobs
        WHERE status = 'pending' AND dispatchable AND route_key = offer.route_key
            AND (adopt_until IS NULL OR adopt_until <= now())
        ORDER BY priority DESC, virtual_start, id
        LIMIT offer.wanted
        FOR UPDATE SKIP LOCKED
    ) AS job
), dealt AS (
    SELECT id, slot FROM adoption
    UNION ALL
    SELECT ranked.id, free.slot
    FROM (
        SELECT grp, id, row_number() OVER (
            PARTITION BY grp ORDER BY priority DESC, virtual_start, id
        ) AS place
        FROM (SELECT DISTINCT ON (id) * FROM head ORDER BY id, grp) AS once
    ) AS ranked
    JOIN (
        SELECT grp, slot, row_number() OVER (PARTITION BY grp ORDER BY slot) AS place
        FROM slot WHERE slot NOT IN (SELECT slot FROM adoption)
    ) AS free USING (grp, place)
), job AS (
    UPDATE generation_jobs AS job SET
        status = 'running',
        dispatchable = false,
        adopt_until = NULL,
        not_before = NULL,
        attempt = attempt + 1,
        lease_token = slot.lease_token,
        lease_request_id = slot.lease_request_id,
        worker_id = slot.worker_id,
        backend = slot.backend,
        leased_at = now(),
        lease_expires_at = now() + :ttl,
        started_at = NULL,
        comfyui_prompt_id = NULL,
        progress = NULL
    FROM dealt JOIN slot USING (slot)
    WHERE job.id = dealt.id
    RETURNING job.*, slot.slot, slot.worker, slot.instance_id
), recorded AS (
    INSERT INTO job_attempts (job_id, attempt, lease_token, worker, instance_id, backend)
    SELECT id, attempt, lease_token, worker, instance_id, backend FROM job
)
SELECT job.slot, {JOB_COLUMNS_SQL}, CASE WHEN job.attempt > 1 THEN ARRAY(
    SELECT prior.attempt FROM job_attempts AS prior
    WHERE prior.job_id = job.id AND prior.attempt < job.attempt AND prior.backend = job.backend
        AND prior.outcome IN ('lease_expired', 'superseded', 'released')
    ORDER BY prior.attempt DESC
) ELSE '{{}}' END AS prior_attempts
FROM job
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Room for one job in one ComfyUI of a waiting worker; ``grp`` names its RouteOffer."""

    slot: int
    grp: int
    worker_id: int
    worker: str
    instance_id: UUID
    backend: str
    lease_token: UUID
    lease_request_id: str


@dataclass(frozen=True, slots=True)
class RouteOffer:
    """The route keys that the slots of group ``grp`` can take, and how many jobs they want."""

    grp: int
    route_keys: Sequence[int]
    wanted: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that has just been leased to ``slot``.

    ``prior_attempts`` are those whose prompts may still be in that ComfyUI, newest first.
    """

    slot: int
    job: JobRow
    prior_attempts: Sequence[int]


async def claim(
    database: Database, slots: Sequence[Slot], offers: Sequence[RouteOffer], ttl: timedelta
) -> list[Claim]:
    """Lease the next jobs to as many slots as there are jobs for."""
    parameters: dict[str, Any] = {
        "slots": as_json([asdict(slot) for slot in slots]),
        "offers": as_json([asdict(offer) for offer in offers]),
        "ttl": ttl,
    }
    rows = await database.rows(_CLAIM, parameters)
    return [Claim(row.slot, JobRow.of(row), row.prior_attempts) for row in rows]
