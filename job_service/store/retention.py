"""Statements that give up jobs and files that have been kept long enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from psycopg import errors as pg

from job_service.store.database import Database, Row, statement

# A file without a job is what nobody finds any more, and what the sweeper removes. A file is there
# before its job ends, so its own age says where to look; few are looked at in vain.
_DETACH_ARTIFACTS: Final = statement("""
WITH old AS MATERIALIZED (
    SELECT artifact.id FROM job_artifacts AS artifact
    JOIN generation_jobs AS job ON job.id = artifact.job_id
    WHERE artifact.job_id IS NOT NULL
        AND artifact.created_at < now() - CAST(:retention AS interval)
        AND job.completed_at < now() - CAST(:retention AS interval)
    ORDER BY artifact.created_at LIMIT :most
    FOR UPDATE OF artifact SKIP LOCKED
)
UPDATE job_artifacts AS artifact SET job_id = NULL FROM old WHERE artifact.id = old.id
""")

_CANDIDATES: Final = """
SELECT id, completed_at FROM generation_jobs
WHERE completed_at < now() - CAST(:retention AS interval)
    AND (completed_at, id) > (CAST(:after_time AS timestamptz), CAST(:after_id AS bigint))
ORDER BY completed_at, id LIMIT :most
"""

_REMOVE_JOBS: Final = f"""
WITH candidate AS MATERIALIZED ({_CANDIDATES} FOR UPDATE SKIP LOCKED), removed AS (
    DELETE FROM generation_jobs AS job USING candidate
    WHERE job.id = candidate.id AND {{unreferenced}}
    RETURNING job.id
)
SELECT (SELECT array_agg(id) FROM removed) AS removed, count(*) AS looked_at,
    CAST(max(completed_at) AS text) AS last_time,
    (array_agg(id ORDER BY completed_at DESC, id DESC))[1] AS last_id
FROM candidate
"""

_NEXT: Final = statement(f"""
SELECT CAST(completed_at AS text) AS last_time, id AS last_id FROM ({_CANDIDATES}) AS candidate
""")

# The application's tables that refer to jobs in a way that forbids to delete them, as conditions on
# a job. Those that this role may not read are left to the constraint itself.
_UNREFERENCED: Final = statement("""
SELECT format(
    'NOT EXISTS (SELECT FROM %s AS reference WHERE %s)',
    CAST(foreign_key.conrelid AS regclass),
    string_agg(
        format('reference.%I = job.%I', referring.attname, referred.attname),
        ' AND ' ORDER BY referring.attnum
    )
) AS condition
FROM pg_constraint AS foreign_key
CROSS JOIN LATERAL unnest(foreign_key.conkey, foreign_key.confkey) AS pair (referring, referred)
JOIN pg_class AS referring_table ON referring_table.oid = foreign_key.conrelid
JOIN pg_attribute AS referring
    ON referring.attrelid = foreign_key.conrelid AND referring.attnum = pair.referring
JOIN pg_attribute AS referred
    ON referred.attrelid = foreign_key.confrelid AND referred.attnum = pair.referred
WHERE foreign_key.contype = 'f' AND foreign_key.confdeltype IN ('a', 'r')
    AND foreign_key.confrelid = CAST('generation_jobs' AS regclass)
    AND has_schema_privilege(referring_table.relnamespace, 'USAGE')
    AND has_table_privilege(foreign_key.conrelid, 'SELECT')
GROUP BY foreign_key.oid, foreign_key.conrelid
ORDER BY foreign_key.oid
""")


@dataclass(frozen=True, slots=True)
class Place:
    """A job in the order in which jobs ended. ``time`` is PostgreSQL's text of it."""

    time: str
    job_id: int


#: Before every job.
BEGINNING: Final = Place("-infinity", 0)


@dataclass(frozen=True, slots=True)
class Removal:
    """Ids of the jobs removed, how far was looked, and whether there may be more beyond."""

    job_ids: Sequence[int]
    place: Place
    more: bool


class RetentionStore:
    """Gives up, by small batches, what ended long ago. Safe to run in every replica at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def detach_artifacts(self, retention: timedelta, most: int = 500) -> bool:
        """Part files from jobs that ended longer ago; whether there may be more of them."""
        detached = await self._database.run(
            _DETACH_ARTIFACTS, {"retention": retention, "most": most}
        )
        return detached == most

    async def remove_jobs(self, retention: timedelta, after: Place, most: int = 100) -> Removal:
        """Remove jobs that ended longer ago and beyond ``after``, in that order.

        Those that the application refers to stay, and are passed over.
        """
        parameters = {
            "retention": retention,
            "after_time": after.time,
            "after_id": after.job_id,
            "most": most,
        }
        sql = _REMOVE_JOBS.format(unreferenced=await self._unreferenced())
        try:
            row = await self._database.row(statement(sql), parameters)
        except pg.IntegrityError as error:
            if not isinstance(error, pg.ForeignKeyViolation | pg.RestrictViolation):
                raise
            # Referred to by a table that cannot be read, or since a moment ago: one at a time.
            if most > 1:
                return await self.remove_jobs(retention, after, most=1)
            row = await self._database.row(_NEXT, parameters)
            return Removal((), after if row is None else _place(row), more=True)
        assert row is not None, "the statement answers one row"
        if not row.looked_at:
            return Removal((), after, more=False)
        return Removal(row.removed or (), _place(row), more=row.looked_at == most)

    async def _unreferenced(self) -> str:
        """The condition that no row of the application's refers to ``job``."""
        conditions = [row.condition for row in await self._database.rows(_UNREFERENCED)]
        # Names may hold what would be a parameter's.
        return " AND ".join(conditions).replace(":", r"\:") or "true"


def _place(row: Row) -> Place:
    return Place(row.last_time, row.last_id)
