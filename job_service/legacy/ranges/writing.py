"""The jobs of a batch are written, with their files, and what became of which former row."""

from collections.abc import Iterable
from typing import Any, Final

from generation_jobs.v1 import job_error_pb2

from job_service.jobs.error_policy import error_of
from job_service.jobs.limits import DEFAULT_BACKEND
from job_service.jobs.routing import Needs
from job_service.legacy import former
from job_service.legacy.mapping.artifacts import INSERT_ARTIFACTS
from job_service.legacy.session import Driver, statements
from job_service.store.database import Connection, Row, as_json, statement
from job_service.store.fair_share import tagging
from job_service.store.outcomes import error_as_json
from job_service.store.route_keys import RouteKeys

#: Bytes of technical details that an error may have.
_MOST_DETAILS: Final = 4096

CREATE_TABLES: Final = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS import_error (error_text text, error jsonb)",
    (
        "CREATE TEMPORARY TABLE IF NOT EXISTS import_kind (route_key integer, job_type text,"
        " checkpoint_model text, loras jsonb)"
    ),
)

# What comes again has not been deleted.
_BURIED: Final = """
DELETE FROM job_tombstones USING import_batch AS batch WHERE batch.job_id = job_tombstones.job_id
"""

# By the index, whatever the planner takes the tables for.
_COLLISIONS: Final = statement("""
SELECT batch.job_id FROM import_batch AS batch
CROSS JOIN LATERAL (SELECT FROM generation_jobs WHERE id = batch.job_id LIMIT 1) AS job
LIMIT 10
""")

_KINDS: Final = statement("""
SELECT DISTINCT job_type, checkpoint_model, lora_names AS loras FROM import_batch
""")

_ERRORS: Final = statement(
    "SELECT DISTINCT error_text FROM import_batch WHERE error_text IS NOT NULL"
)

_PUT_KINDS: Final = statement("""
INSERT INTO import_kind SELECT route_key, job_type, checkpoint_model, loras
FROM jsonb_to_recordset(CAST(:rows AS jsonb))
    AS kind (route_key integer, job_type text, checkpoint_model text, loras jsonb)
""")

_PUT_ERRORS: Final = statement("""
INSERT INTO import_error SELECT error_text, error
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS error (error_text text, error jsonb)
""")

# As new jobs are: queued ones get their place, or wait until their user may have more running.
_INSERT_JOBS: Final = statement(f"""
WITH queued AS MATERIALIZED (
    SELECT batch.job_id AS id, batch.user_id, CAST(0 AS smallint) AS priority,
        batch.user_id IS NOT NULL
            AND coalesce(share.max_running, CAST(:max_running AS integer)) IS NOT NULL AS capped
    FROM import_batch AS batch LEFT JOIN user_shares AS share USING (user_id)
    WHERE batch.status = 'pending'
), {tagging("SELECT id, user_id, priority FROM queued WHERE NOT capped")}
INSERT INTO generation_jobs (
    id, user_id, job_type, status, prompt, negative_prompt, checkpoint_model, lora_models, width,
    height, batch_size, seed, params, content_id, error, error_message, comfyui_prompt_id,
    celery_task_id, legacy_request_id, created_at, updated_at, started_at, completed_at,
    dispatchable, route_key, virtual_start
)
SELECT
    batch.job_id, user_id, batch.job_type, status, prompt, negative_prompt, batch.checkpoint_model,
    lora_models, width, height, batch_size, seed, params, content_id, import_error.error,
    error_message, comfyui_prompt_id, celery_task_id, request_id, created_at, updated_at,
    started_at, completed_at, tagged.id IS NOT NULL, kind.route_key, tagged.virtual_start
FROM import_batch AS batch
JOIN import_kind AS kind
    ON kind.job_type = batch.job_type
    AND coalesce(kind.checkpoint_model, '') = coalesce(batch.checkpoint_model, '')
    AND kind.loras = batch.lora_names
LEFT JOIN import_error USING (error_text)
LEFT JOIN tagged ON tagged.id = batch.job_id
ORDER BY batch.job_id
""")

_INSERT_ROWS: Final = """
INSERT INTO legacy_rows (source, source_id, job_id, checksum, outcome, adjusted)
SELECT '{source}', source_id, job_id, checksum, 'imported',
    CASE WHEN legacy IS NOT NULL THEN ARRAY(
        SELECT field FROM jsonb_object_keys(legacy) AS field
        WHERE NOT starts_with(field, 'request.') ORDER BY field COLLATE "C"
    ) END
FROM import_batch
ON CONFLICT (source, source_id) DO UPDATE SET
    job_id = excluded.job_id, checksum = excluded.checksum, outcome = excluded.outcome,
    adjusted = excluded.adjusted, conflict = false
"""

_INSERT_PARTS: Final = f"""
INSERT INTO legacy_rows (source, source_id, job_id, checksum, outcome, adjusted)
SELECT '{former.REQUESTS}', request_id, job_id, request_checksum, 'combined',
    CASE WHEN legacy IS NOT NULL THEN ARRAY(
        SELECT field FROM jsonb_object_keys(legacy) AS field
        WHERE starts_with(field, 'request.') ORDER BY field COLLATE "C"
    ) END
FROM import_batch WHERE request_id IS NOT NULL
ON CONFLICT (source, source_id) DO UPDATE SET
    job_id = excluded.job_id, checksum = excluded.checksum, outcome = excluded.outcome,
    adjusted = excluded.adjusted, conflict = false
"""

_NEXT_ID: Final = """
UPDATE legacy_import SET next_id = greatest(next_id, (SELECT max(job_id) + 1 FROM import_batch
    WHERE job_id >= legacy_import.next_id))
"""


class IdCollisionError(Exception):
    """Ids of former jobs belong to other jobs here; ``ids``: some of them."""

    def __init__(self, ids: Iterable[int]) -> None:
        super().__init__()
        self.ids = sorted(ids)


class BatchWriter:
    """Writes what is in ``import_batch``, on one connection.

    ``max_running``: jobs of a user that may run at once, as the service's settings say.
    """

    def __init__(self, driver: Driver, max_running: int | None) -> None:
        self._driver = driver
        self._sql: Connection = statements(driver)
        self._max_running = max_running
        self._route_keys = RouteKeys(self._sql)

    async def write(self, source: str) -> None:
        """Write the jobs of rows of one former table. Raises IdCollisionError."""
        collisions = await self._sql.rows(_COLLISIONS)
        if collisions:
            raise IdCollisionError(row.job_id for row in collisions)
        await self._intern_kinds()
        await self._intern_errors()
        await self._sql.run(_INSERT_JOBS, {"max_running": self._max_running})
        await self._driver.execute(INSERT_ARTIFACTS.encode())
        await self._driver.execute(_INSERT_ROWS.format(source=source).encode())
        if source == former.JOBS:
            await self._driver.execute(_INSERT_PARTS.encode())
        await self._driver.execute(_NEXT_ID.encode())
        await self._driver.execute(_BURIED.encode())

    async def _intern_kinds(self) -> None:
        kinds = await self._sql.rows(_KINDS)
        keys = await self._route_keys.of([_needs(kind) for kind in kinds])
        rows = [
            {
                "route_key": key,
                "job_type": kind.job_type,
                "checkpoint_model": kind.checkpoint_model,
                "loras": kind.loras,
            }
            for key, kind in zip(keys, kinds, strict=True)
        ]
        await self._driver.execute(b"TRUNCATE import_kind")
        await self._sql.run(_PUT_KINDS, {"rows": as_json(rows)})

    async def _intern_errors(self) -> None:
        rows = [
            {"error_text": row.error_text, "error": _error(row.error_text)}
            for row in await self._sql.rows(_ERRORS)
        ]
        await self._driver.execute(b"TRUNCATE import_error")
        if rows:
            await self._sql.run(_PUT_ERRORS, {"rows": as_json(rows)})


def _needs(kind: Row) -> Needs:
    """What a job of a former system needs: its fields say all of it."""
    return Needs(
        job_type=kind.job_type,
        backend_label=DEFAULT_BACKEND,
        checkpoint=kind.checkpoint_model or "",
        loras=tuple(sorted(kind.loras)),
    )


def _error(text: str) -> dict[str, Any]:
    error = error_of(job_error_pb2.ERROR_CODE_LEGACY, text)
    if len(error.technical_details.encode()) > _MOST_DETAILS:
        cut = error.technical_details.encode()[:_MOST_DETAILS]
        error.technical_details = cut.decode(errors="ignore")
    return error_as_json(error)
