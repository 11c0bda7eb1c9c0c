"""The statement by which an attempt succeeds. It checks the lease token itself.

Jobs are locked in the order of their ids, so that no such statement deadlocks another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from job_service.store.database import Database, as_json, statement
from job_service.store.joined import Joined
from job_service.store.lease_key import LeaseKey, as_interval, numbered
from job_service.store.outcomes import Ended, Outcomes
from job_service.store.tally import UNCOUNTED, Tally

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


class CompletionStore:
    """Completes jobs. Calls that arrive together share a statement."""

    def __init__(self, database: Database, tally: Tally = UNCOUNTED) -> None:
        self._database = database
        self._outcomes = Outcomes(database, tally)
        self.complete = Joined(self._complete)

    async def completed_before(self, lease: LeaseKey) -> Ended:
        """What a completion has recorded of a lease that has ended."""
        (ended,) = await self._outcomes.ended(
            [numbered(0, lease) | {"reported_by": "complete"}], ()
        )
        return ended

    async def _complete(self, completions: Sequence[Completion]) -> Sequence[Ended | Exception]:
        rows = [
            {
                **numbered(n, completion.lease),
                "reported_by": "complete",
                "artifact_ids": list(completion.artifact_ids),
                "put_ids": list(completion.put_ids),
                "running_for": as_interval(completion.running_for),
                "prompt_id": completion.prompt_id,
            }
            for n, completion in enumerate(completions)
        ]
        answers = await self._database.rows(_COMPLETE, {"rows": as_json(rows)})
        return await self._outcomes.ended(rows, answers)
