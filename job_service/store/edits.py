"""Statements that change jobs on a client's word: update, content, cancel by filter."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final
from uuid import UUID

from job_service.jobs.new_job import NewJob
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.admission import UserCaps
from job_service.store.conditions import JobConditions
from job_service.store.database import Database, as_json, statement
from job_service.store.fair_share import tagging
from job_service.store.route_keys import RouteKeys
from job_service.store.tables import JOB_COLUMNS_SQL, JobRow
from job_service.store.tally import UNCOUNTED, Tally

# Only the row that was read, and only while it waits. A job keeps its place unless its priority or
# its time changes: then it is tagged, parked or scheduled as if it were new.
_UPDATE: Final = statement(f"""
WITH new AS MATERIALIZED (
    SELECT r.*, job.user_id, job.attempt,
        job.priority <> r.priority OR job.scheduled_at IS DISTINCT FROM r.scheduled_at AS moved,
        CASE WHEN r.scheduled_at > now() THEN r.scheduled_at END AS not_before,
        coalesce((
            SELECT max_running FROM user_shares AS share WHERE share.user_id = job.user_id
        ), CAST(:max_running AS integer)) IS NOT NULL AND job.user_id IS NOT NULL AS capped
    FROM jsonb_to_record(CAST(:row AS jsonb)) AS r (
        id bigint, revision bigint, negative_prompt text, checkpoint_model text,
        lora_models jsonb, width integer, height integer, batch_size integer, seed bigint,
        params jsonb, workflow text, template_arguments jsonb, labels jsonb, priority smallint,
        scheduled_at timestamptz,
        expires_at timestamptz, max_attempts smallint, attempt_timeout interval,
        route_key integer
    )
    JOIN generation_jobs AS job USING (id)
    WHERE job.revision = r.revision AND job.status = 'pending'
    FOR NO KEY UPDATE OF job
), {
    tagging(
        "SELECT id, user_id, priority FROM new WHERE moved AND not_before IS NULL AND NOT capped"
    )
}
UPDATE generation_jobs AS job SET
    negative_prompt = new.negative_prompt,
    checkpoint_model = new.checkpoint_model,
    lora_models = new.lora_models,
    width = new.width,
    height = new.height,
    batch_size = new.batch_size,
    seed = new.seed,
    -- but for the sampler's they are immutable, and a double may not hold their numbers
    params = job.params - 'sampler_params' || CASE WHEN new.params -> 'sampler_params' IS NULL
        THEN '{{}}' ELSE jsonb_build_object('sampler_params', new.params -> 'sampler_params') END,
    workflow = new.workflow,
    template_arguments = new.template_arguments,
    labels = new.labels,
    priority = new.priority,
    scheduled_at = new.scheduled_at,
    expires_at = new.expires_at,
    max_attempts = new.max_attempts,
    attempt_timeout = new.attempt_timeout,
    route_key = new.route_key,
    not_before = CASE WHEN new.moved THEN new.not_before ELSE job.not_before END,
    dispatchable = CASE WHEN new.moved THEN tagged.id IS NOT NULL ELSE job.dispatchable END,
    virtual_start = CASE WHEN new.moved THEN tagged.virtual_start ELSE job.virtual_start END
FROM new LEFT JOIN tagged USING (id)
WHERE job.id = new.id
RETURNING {JOB_COLUMNS_SQL}
""")

_SET_CONTENT: Final = statement(f"""
UPDATE generation_jobs AS job SET content_id = :content_id
WHERE id = :id AND (CAST(:user_id AS uuid) IS NULL OR user_id = :user_id)
RETURNING {JOB_COLUMNS_SQL}
""")

# By batches, locked in the order of their ids; those whose worker has been told are not told again.
_CANCEL_MATCHING: Final = """
WITH chosen AS MATERIALIZED (
    SELECT id FROM generation_jobs AS job
    WHERE job.status IN ('pending', 'running') AND job.cancel_requested_at IS NULL AND {where}
    ORDER BY id LIMIT :most FOR NO KEY UPDATE
)
UPDATE generation_jobs AS job SET
    status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END,
    completed_at = CASE status WHEN 'pending' THEN now() END,
    dispatchable = false,
    adopt_until = NULL,
    cancel_requested_at = now(),
    cancel_reason = :reason
FROM chosen WHERE job.id = chosen.id
RETURNING job.id, job.status, job.worker_id
"""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job that a cancel has reached: at rest, or about to be stopped by ``worker_id``."""

    job_id: int
    at_rest: bool
    worker_id: int | None


class EditStore:
    """Changes that clients make to jobs."""

    def __init__(
        self,
        database: Database,
        route_keys: RouteKeys,
        caps: UserCaps,
        tally: Tally = UNCOUNTED,
    ) -> None:
        self._database = database
        self._route_keys = route_keys
        self._caps = caps
        self._tally = tally

    async def update(self, job_id: int, revision: int, new: NewJob) -> JobRow | None:
        """Give a pending job new values; None: it is not pending any more, or has changed.

        Identity, owner and prompt stay as they are, and so does the template; the graph it becomes
        follows the values.
        """
        (route_key,) = await self._route_keys.of([new.needs])
        values = asdict(new) | {
            "id": job_id,
            "revision": revision,
            "route_key": route_key,
            "attempt_timeout": f"{new.attempt_timeout.total_seconds()} seconds",
        }
        row = await self._database.row(
            _UPDATE,
            {
                "row": as_json({name: values[name] for name in _UPDATED}),
                "max_running": self._caps.max_running,
            },
        )
        return None if row is None else JobRow.of(row)

    async def set_content(
        self, job_id: int, user_id: UUID | None, content_id: int | None
    ) -> JobRow:
        """Note which content item came out of a job. Raises RefusedError: JOB_NOT_FOUND."""
        row = await self._database.row(
            _SET_CONTENT, {"id": job_id, "user_id": user_id, "content_id": content_id}
        )
        if row is None:
            raise RefusedError(Refusal.JOB_NOT_FOUND, f"there is no job {job_id}")
        return JobRow.of(row)

    async def cancel_matching(
        self, conditions: JobConditions, reason: str | None, most: int = 1000
    ) -> Sequence[Cancelled]:
        """Cancel up to ``most`` jobs that have not ended; fewer: there were no more."""
        where, parameters = conditions.where()
        rows = await self._database.rows(
            statement(_CANCEL_MATCHING.format(where=where)),
            parameters | {"reason": reason, "most": most},
        )
        cancelled = [Cancelled(row.id, row.status == "cancelled", row.worker_id) for row in rows]
        self._tally.jobs_ended("cancelled", "", sum(one.at_rest for one in cancelled))
        return cancelled


_UPDATED: Final[Sequence[str]] = (
    "id",
    "revision",
    "negative_prompt",
    "checkpoint_model",
    "lora_models",
    "width",
    "height",
    "batch_size",
    "seed",
    "params",
    "workflow",
    "template_arguments",
    "labels",
    "priority",
    "scheduled_at",
    "expires_at",
    "max_attempts",
    "attempt_timeout",
    "route_key",
)
