"""One range of former ids: what is new or has changed there is brought over, in one transaction.

Which rows those are is told by ``legacy_rows``, so that an import may stop anywhere and go on: a
row that is there with the same checksum is done.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from generation_jobs.v1 import job_error_pb2

from job_service.jobs.error_policy import error_of
from job_service.jobs.limits import DEFAULT_BACKEND
from job_service.jobs.routing import Needs
from job_service.legacy import former
from job_service.legacy.mapping.artifacts import INSERT_ARTIFACTS
from job_service.legacy.mapping.filling import CREATE_BATCH, fill_batch
from job_service.legacy.mapping.misfits import NEEDS_CHECKPOINT
from job_service.legacy.mapping.words import STATUS_WORDS
from job_service.legacy.ranges.changes import WAITING
from job_service.legacy.session import Driver, one, statements
from job_service.store.database import Connection, Row, as_json, statement
from job_service.store.fair_share import tagging
from job_service.store.leases import error_as_json
from job_service.store.route_keys import RouteKeys

#: Bytes of technical details that an error may have.
_MOST_DETAILS: Final = 4096

CREATE_TEMPORARY: Final = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS import_job AS SELECT * FROM old_job LIMIT 0",
    "CREATE TEMPORARY TABLE IF NOT EXISTS import_request AS SELECT * FROM old_request LIMIT 0",
    CREATE_BATCH,
    (
        "CREATE TEMPORARY TABLE IF NOT EXISTS import_todo ("
        "source_id bigint PRIMARY KEY, known boolean NOT NULL, job_id bigint NOT NULL)"
    ),
    "CREATE TEMPORARY TABLE IF NOT EXISTS import_error (error_text text, error jsonb)",
    (
        "CREATE TEMPORARY TABLE IF NOT EXISTS import_kind (route_key integer, job_type text,"
        " checkpoint_model text, loras jsonb)"
    ),
)

#: Where the rows of a range are, by former table.
ROWS: Final = {former.JOBS: "import_job", former.REQUESTS: "import_request"}

# What the range is about: with its jobs come the requests that are part of them.
_READ: Final = {
    former.JOBS: (
        "INSERT INTO import_job SELECT * FROM old_job WHERE id > :after AND id <= :upto",
        (
            "INSERT INTO import_request SELECT request.* FROM old_request AS request"
            " WHERE request.id IN (SELECT request_id FROM import_match"
            " WHERE job_id > :after AND job_id <= :upto)"
        ),
    ),
    former.REQUESTS: (
        "INSERT INTO import_request SELECT * FROM old_request WHERE id > :after AND id <= :upto",
    ),
}
_READ_WAITING: Final = {
    former.JOBS: (
        (
            "INSERT INTO import_job SELECT job.* FROM old_job AS job WHERE job.id IN"
            f" (SELECT id FROM {WAITING} WHERE source = '{former.JOBS}')"
        ),
        (
            "INSERT INTO import_request SELECT request.* FROM old_request AS request"
            " WHERE request.id IN (SELECT request_id FROM import_match"
            " WHERE job_id IN (SELECT id FROM import_job))"
        ),
    ),
    former.REQUESTS: (
        (
            "INSERT INTO import_request SELECT request.* FROM old_request AS request"
            f" WHERE request.id IN (SELECT id FROM {WAITING} WHERE source = '{former.REQUESTS}')"
        ),
    ),
}

# A state that nobody knows rests, too: nothing is going to run such a job.
_AT_REST: Final = (
    "{row}.status IS NOT NULL AND"
    f" ({STATUS_WORDS.format(status='{row}.status')}) IS DISTINCT FROM 'pending' AND"
    f" ({STATUS_WORDS.format(status='{row}.status')}) IS DISTINCT FROM 'running'"
)

# Rows keep the id that they have had here, and jobs their own; others get the next free ones.
_KNOWN_ID: Final = "CASE WHEN before.outcome = 'imported' THEN before.job_id END"
_NUMBERED: Final = """
INSERT INTO import_todo (source_id, known, job_id)
SELECT id, known, coalesce(known_id, CAST(:next_id AS bigint) - 1
    + count(*) FILTER (WHERE known_id IS NULL) OVER (ORDER BY id))
FROM ({due}) AS due
"""

# New rows, and those whose former row is not any more what it was. A job's former row includes that
# of the request that is part of it.
_DUE: Final = {
    former.JOBS: f"""
    SELECT row.id, before.source_id IS NOT NULL AS known,
        CASE WHEN row.id >= 1 THEN row.id ELSE {_KNOWN_ID} END AS known_id
    FROM import_job AS row
    LEFT JOIN legacy_rows AS before
        ON before.source = '{former.JOBS}' AND before.source_id = row.id
        AND before.source_id > :after AND before.source_id <= :upto
    LEFT JOIN import_match AS match ON match.job_id = row.id
        AND match.job_id > :after AND match.job_id <= :upto
    LEFT JOIN import_request AS request ON request.id = match.request_id
    LEFT JOIN legacy_rows AS part
        ON part.source = '{former.REQUESTS}' AND part.source_id = request.id
    WHERE (
        before.source_id IS NULL
        OR NOT :only_new AND (
            before.checksum <> row.checksum
            OR request.id IS NOT NULL AND (
                part.source_id IS NULL OR part.checksum <> request.checksum
                OR part.job_id <> before.job_id
            )
            OR EXISTS (
                SELECT FROM legacy_rows AS former_part
                WHERE former_part.outcome = 'combined' AND former_part.job_id = before.job_id
                    AND former_part.source_id IS DISTINCT FROM request.id
            )
        )
    ) AND (:all_states OR {_AT_REST.format(row="row")})
    """,
    former.REQUESTS: f"""
    SELECT row.id, before.source_id IS NOT NULL AS known, {_KNOWN_ID} AS known_id
    FROM import_request AS row
    LEFT JOIN legacy_rows AS before
        ON before.source = '{former.REQUESTS}' AND before.source_id = row.id
        AND before.source_id > :after AND before.source_id <= :upto
    WHERE NOT EXISTS (
        SELECT FROM import_match AS match WHERE match.request_id = row.id
            AND match.request_id > :after AND match.request_id <= :upto
    )
        AND (
            before.source_id IS NULL
            OR NOT :only_new AND (before.checksum <> row.checksum OR before.outcome = 'combined')
        ) AND (:all_states OR {_AT_REST.format(row="row")})
    """,
}

_NOTE_DUE: Final = {source: statement(_NUMBERED.format(due=due)) for source, due in _DUE.items()}
_FILL: Final = {source: statement(fill_batch(source)) for source in former.JOB_TABLES}

# A row that comes again replaces what it became, unless job_service has had its hands on that.
_CONFLICTS: Final = """
WITH held AS (
    UPDATE legacy_rows AS before SET conflict = true
    FROM import_todo WHERE import_todo.known AND before.source_id = import_todo.source_id
        AND before.source = '{source}' AND before.source_id > :after AND before.source_id <= :upto
        AND coalesce(
            (SELECT job.revision <> 1 FROM generation_jobs AS job WHERE job.id = before.job_id),
            before.outcome = 'imported'
        )
    RETURNING before.source_id, before.job_id
), left_alone AS (
    DELETE FROM import_todo USING held WHERE import_todo.source_id = held.source_id
)
SELECT source_id, job_id FROM held ORDER BY source_id
"""

_REPLACED: Final = """
WITH replaced AS MATERIALIZED (
    SELECT before.job_id FROM legacy_rows AS before JOIN import_todo USING (source_id)
    WHERE before.source = '{source}' AND before.source_id > :after AND before.source_id <= :upto
        AND import_todo.known AND before.outcome = 'imported'
), files AS (
    DELETE FROM job_artifacts WHERE job_id IN (SELECT job_id FROM replaced)
)
DELETE FROM generation_jobs WHERE id IN (SELECT job_id FROM replaced)
"""

# A request that has become part of a job had a job of its own before.
_ABSORBED: Final = f"""
WITH absorbed AS MATERIALIZED (
    SELECT before.job_id FROM import_todo
    JOIN import_match AS match ON match.job_id = import_todo.source_id
        AND match.job_id > :after AND match.job_id <= :upto
    JOIN legacy_rows AS before
        ON before.source = '{former.REQUESTS}' AND before.source_id = match.request_id
    WHERE before.outcome = 'imported'
), files AS (
    DELETE FROM job_artifacts WHERE job_id IN (SELECT job_id FROM absorbed)
)
DELETE FROM generation_jobs WHERE id IN (SELECT job_id FROM absorbed) AND revision = 1
"""

# What became of a former row that is gone goes too, unless job_service has had its hands on it.
_VANISHED: Final = """
WITH gone AS MATERIALIZED (
    SELECT before.source_id, before.job_id, before.outcome, before.conflict,
        coalesce(job.revision = 1, false) AS untouched
    FROM legacy_rows AS before LEFT JOIN generation_jobs AS job ON job.id = before.job_id
    WHERE before.source = '{source}' AND before.source_id > :after AND before.source_id <= :upto
        AND NOT EXISTS (SELECT FROM {rows} WHERE id = before.source_id)
), files AS (
    DELETE FROM job_artifacts USING gone WHERE job_artifacts.job_id = gone.job_id
        AND gone.untouched AND gone.outcome = 'imported'
), jobs AS (
    DELETE FROM generation_jobs AS job USING gone WHERE job.id = gone.job_id
        AND gone.untouched AND gone.outcome = 'imported'
), rows AS (
    DELETE FROM legacy_rows AS before USING gone
    WHERE before.source = '{source}' AND before.source_id = gone.source_id
        AND (gone.untouched OR gone.outcome = 'combined')
), kept AS (
    UPDATE legacy_rows AS before SET conflict = true FROM gone
    WHERE before.source = '{source}' AND before.source_id = gone.source_id
        AND NOT gone.untouched AND gone.outcome = 'imported'
)
SELECT source_id, job_id, untouched, conflict FROM gone WHERE outcome = 'imported'
ORDER BY source_id
"""

# What comes again has not been deleted.
_BURIED: Final = """
DELETE FROM job_tombstones USING import_batch AS batch WHERE batch.job_id = job_tombstones.job_id
"""

# A job that names a checkpoint which cannot be used keeps that.
_NAME_CHECKPOINT: Final = statement("""
UPDATE import_batch SET
    checkpoint_model = :checkpoint,
    params = jsonb_set(params, '{legacy,checkpoint_model,why}',
        '"was not named, and a picture needs one: given with --checkpoint"')
WHERE legacy #>> '{checkpoint_model,why}' = :needs
""")

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


@dataclass(frozen=True, slots=True)
class Range:
    """Former ids above ``after`` and up to ``upto``."""

    source: str
    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a former row besides being imported."""

    kind: str
    source: str
    source_id: int
    job_id: int


@dataclass(frozen=True, slots=True)
class Done:
    """What was done in a range, of so many former rows."""

    rows: int
    imported: int
    events: tuple[Event, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is otherwise than before."""
        return bool(self.imported or self.events)


class IdCollisionError(Exception):
    """Ids of former jobs belong to other jobs here; ``ids``: some of them."""

    def __init__(self, ids: Iterable[int]) -> None:
        super().__init__()
        self.ids = sorted(ids)


class BatchImport:
    """Brings ranges over, on one connection.

    ``running``: what becomes of jobs that were at work: pending or failed. ``max_running``: jobs of
    a user that may run at once, as the service's settings say. ``checkpoint``: for queued pictures
    that name none.
    """

    def __init__(
        self, driver: Driver, running: str, max_running: int | None, checkpoint: str | None
    ) -> None:
        self._driver = driver
        self._sql: Connection = statements(driver)
        self._running = running
        self._max_running = max_running
        self._checkpoint = checkpoint
        self._route_keys = RouteKeys(self._sql)

    async def prepare(self) -> None:
        """Make the temporary tables; the views of the former ones are there."""
        for sql in CREATE_TEMPORARY:
            await self._driver.execute(sql.encode())

    async def run(
        self, range_: Range, *, all_states: bool, only_new: bool, waiting: bool = False
    ) -> Done:
        """Bring a range over; to be called inside a transaction.

        ``all_states``: jobs that are not at rest, too. ``only_new``: leave rows alone that were
        imported before. ``waiting``: of the range only the rows that are known to have waited.
        Raises IdCollisionError.
        """
        source = range_.source
        rows = await self._read(range_, waiting=waiting)
        if not rows and waiting:
            return Done(0, 0, ())
        known = not only_new and not waiting
        events = await self._remove_vanished(range_) if known else []
        await self._note_due(range_, all_states=all_states, only_new=only_new)
        if known:
            conflicts = await self._sql.rows(
                statement(_CONFLICTS.format(source=source)), _ends(range_)
            )
            events += [Event("conflict", source, row.source_id, row.job_id) for row in conflicts]
            await self._sql.run(statement(_REPLACED.format(source=source)), _ends(range_))
            if source == former.JOBS:
                await self._sql.run(statement(_ABSORBED), _ends(range_))
        filled = await self._fill(range_)
        if filled:
            await self._name_checkpoint()
            await self._write(source)
        return Done(rows, filled, tuple(events))

    async def _read(self, range_: Range, *, waiting: bool) -> int:
        """Read the range; how many of its own rows there are."""
        await self._driver.execute(b"TRUNCATE import_job, import_request")
        own, *parts = (_READ_WAITING if waiting else _READ)[range_.source]
        rows = await self._sql.run(statement(own), _ends(range_))
        for sql in parts:
            await self._sql.run(statement(sql), _ends(range_))
        return rows

    async def _note_due(self, range_: Range, *, all_states: bool, only_new: bool) -> None:
        await self._driver.execute(b"TRUNCATE import_todo")
        (next_id,) = await one(self._driver, "SELECT next_id FROM legacy_import")
        await self._sql.run(
            _NOTE_DUE[range_.source],
            {
                **_ends(range_),
                "next_id": next_id,
                "all_states": all_states,
                "only_new": only_new,
            },
        )

    async def _remove_vanished(self, range_: Range) -> list[Event]:
        rows = await self._sql.rows(
            statement(_VANISHED.format(source=range_.source, rows=ROWS[range_.source])),
            _ends(range_),
        )
        return [
            Event("removed" if row.untouched else "conflict", range_.source, *row[:2])
            for row in rows
            if row.untouched or not row.conflict
        ]

    async def _fill(self, range_: Range) -> int:
        await self._driver.execute(b"TRUNCATE import_batch")
        return await self._sql.run(
            _FILL[range_.source], {**_ends(range_), "running": self._running}
        )

    async def _name_checkpoint(self) -> None:
        if self._checkpoint is not None:
            await self._sql.run(
                _NAME_CHECKPOINT,
                {"checkpoint": self._checkpoint, "needs": NEEDS_CHECKPOINT},
            )

    async def _write(self, source: str) -> None:
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


def _ends(range_: Range) -> dict[str, int]:
    return {"after": range_.after, "upto": range_.upto}


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
