"""Statements on inputs: the rows behind the uploaded pictures in the artifact store."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from job_service.store.database import Database, Row, as_json, statement
from job_service.store.lease_key import LeaseEndedError, LeaseKey

_COLUMNS: Final = """
input.id, input.user_id, input.filename, input.content_type, input.size, input.sha256, input.width,
input.height, input.object_key, input.created_at, input.stored_at
"""

_REUSE: Final = statement(f"""
UPDATE job_inputs AS input SET last_used_at = now()
WHERE user_id = :user_id AND sha256 = :sha256 AND removed_at IS NULL AND stored_at IS NOT NULL
RETURNING {_COLUMNS}
""")

# The row is written before the object. Uploads of the same content at the same time share the row,
# and with it the object, which all of them write alike.
_ANNOUNCE: Final = statement(f"""
INSERT INTO job_inputs AS input (
    user_id, filename, content_type, size, sha256, width, height, object_key
)
SELECT new.user_id, new.filename, new.content_type, new.size, decode(new.sha256, 'hex'),
    new.width, new.height,
    format('inputs/%s/%s-%s', new.user_id, new.sha256, gen_random_uuid())
FROM jsonb_to_record(CAST(:input AS jsonb)) AS new (
    user_id uuid, filename text, content_type text, size bigint, sha256 text, width integer,
    height integer
)
ON CONFLICT (user_id, sha256) WHERE removed_at IS NULL DO UPDATE SET last_used_at = now()
RETURNING {_COLUMNS}
""")

_STORED: Final = statement(f"""
UPDATE job_inputs AS input SET stored_at = coalesce(stored_at, now()), last_used_at = now()
WHERE id = :id AND removed_at IS NULL
RETURNING {_COLUMNS}
""")

# An input that is found here is not removed for at least half its retention, within which the job
# that names it is stored. Only one that is nearer to its end is written to, so that jobs that share
# an input do not queue for its row. `ageing` is looked up before the rows are locked: whoever
# waited for another call that refreshed the row must not lose it for being fresh.
_RESOLVE: Final = statement(f"""
WITH wanted AS MATERIALIZED (
    SELECT DISTINCT user_id, id
    FROM jsonb_to_recordset(CAST(:wanted AS jsonb)) AS w (user_id uuid, id bigint)
), ageing AS MATERIALIZED (
    SELECT id FROM wanted JOIN job_inputs USING (user_id, id)
    WHERE removed_at IS NULL AND stored_at IS NOT NULL
        AND last_used_at < now() - CAST(:retention AS interval) / 2
), held AS MATERIALIZED (
    SELECT input.id FROM job_inputs AS input JOIN ageing USING (id)
    WHERE input.removed_at IS NULL
    ORDER BY input.id
    FOR NO KEY UPDATE OF input
), refreshed AS (
    UPDATE job_inputs AS input SET last_used_at = now()
    FROM held WHERE input.id = held.id
)
SELECT {_COLUMNS} FROM wanted JOIN job_inputs AS input USING (user_id, id)
WHERE input.removed_at IS NULL AND input.stored_at IS NOT NULL
    AND (input.id NOT IN (SELECT id FROM ageing) OR input.id IN (SELECT id FROM held))
""")

_BY_ID: Final = statement(f"SELECT {_COLUMNS} FROM job_inputs AS input WHERE id = ANY(:ids)")

# Ids are null when the job has no such input; no row: the lease has ended.
_LEASED: Final = statement(f"""
SELECT {_COLUMNS}
FROM generation_jobs AS job
LEFT JOIN job_inputs AS input ON input.id = :input_id
    AND job.inputs @> jsonb_build_array(jsonb_build_object('input_id', input.id))
WHERE job.id = :job_id AND job.lease_token = :lease_token
""")

# What nobody has used for long is looked up among the jobs. What a job refers to counts as used, so
# that it is looked up again only after as long. A resolve that comes first makes its row fresh,
# which the lock notices; one that comes later finds the row removed.
_RETIRE: Final = statement("""
WITH idle AS MATERIALIZED (
    SELECT id FROM job_inputs
    WHERE removed_at IS NULL AND last_used_at < now() - CAST(:retention AS interval)
    ORDER BY last_used_at LIMIT :most
    FOR UPDATE SKIP LOCKED
), checked AS MATERIALIZED (
    -- Not NOT EXISTS: as a join that could be planned over the whole table.
    SELECT id, (
        SELECT true FROM generation_jobs AS job
        WHERE job.inputs @> jsonb_build_array(jsonb_build_object('input_id', idle.id))
            AND job.inputs <> '[]'
        LIMIT 1
    ) IS TRUE AS in_use
    FROM idle
)
UPDATE job_inputs AS input SET
    last_used_at = CASE WHEN in_use THEN now() ELSE last_used_at END,
    removed_at = CASE WHEN in_use THEN NULL ELSE now() END
FROM checked WHERE input.id = checked.id
""")

_RETIRED: Final = statement("""
SELECT id, object_key FROM job_inputs WHERE removed_at IS NOT NULL ORDER BY id LIMIT :most
""")

_FORGET: Final = statement("""
DELETE FROM job_inputs WHERE id = ANY(:ids) AND removed_at IS NOT NULL
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInput:
    """A picture that a client has uploaded."""

    user_id: UUID
    filename: str
    content_type: str
    size: int
    sha256: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRow:
    """One row of ``job_inputs``."""

    id: int
    user_id: UUID
    filename: str
    content_type: str
    size: int
    sha256: bytes
    width: int
    height: int
    object_key: str
    created_at: datetime
    stored_at: datetime | None


class InputTable:
    """Inputs in the table.

    One that no job refers to is removed when it has not been used for ``retention``, which must be
    much longer than it takes to store a job.
    """

    def __init__(self, database: Database, retention: timedelta) -> None:
        self._database = database
        self._retention = retention

    async def reuse(self, user_id: UUID, sha256: bytes) -> InputRow | None:
        """The user's stored input with this content; None: there is none yet."""
        row = await self._database.row(_REUSE, {"user_id": user_id, "sha256": sha256})
        return _input(row) if row is not None else None

    async def announce(self, new: NewInput) -> InputRow:
        """Write down that an object is about to be stored, or find the row of the same content."""
        columns = asdict(new) | {"sha256": new.sha256.hex()}
        row = await self._database.row(_ANNOUNCE, {"input": as_json(columns)})
        assert row is not None, "the statement answers the row it wrote"
        return _input(row)

    async def stored(self, input_id: int) -> InputRow | None:
        """Write down that an object is completely stored; None: it was swept meanwhile."""
        row = await self._database.row(_STORED, {"id": input_id})
        return _input(row) if row is not None else None

    async def resolve(
        self, wanted: Collection[tuple[UUID, int]]
    ) -> dict[tuple[UUID, int], InputRow]:
        """Those of the inputs, named by owner and id, that are there, for jobs about to be stored.

        They stay for at least half the retention, whatever the sweeper does; by then the jobs must
        be stored. One statement, none when nothing is wanted.
        """
        if not wanted:
            return {}
        rows = await self._database.rows(
            _RESOLVE,
            {
                "wanted": as_json([{"user_id": user, "id": input_id} for user, input_id in wanted]),
                "retention": self._retention,
            },
        )
        return {(row.user_id, row.id): _input(row) for row in rows}

    async def by_id(self, ids: Collection[int]) -> dict[int, InputRow]:
        """Inputs that jobs refer to. One statement, none when there are no ids."""
        if not ids:
            return {}
        rows = await self._database.rows(_BY_ID, {"ids": list(ids)})
        return {row.id: _input(row) for row in rows}

    async def of_lease(self, lease: LeaseKey, input_id: int) -> InputRow | None:
        """An input of a leased job; None: the job has no such input. Raises LeaseEndedError."""
        row = await self._database.row(
            _LEASED, {"job_id": lease.job_id, "lease_token": lease.token, "input_id": input_id}
        )
        if row is None:
            raise LeaseEndedError
        return _input(row) if row.id is not None else None

    async def retire(self, most: int) -> bool:
        """Give up inputs that nobody uses; whether there may be more to look at."""
        looked_at = await self._database.run(_RETIRE, {"retention": self._retention, "most": most})
        return looked_at == most

    async def retired(self, most: int) -> list[tuple[int, str]]:
        """Inputs that were given up and are not forgotten: (id, object key)."""
        rows = await self._database.rows(_RETIRED, {"most": most})
        return [(row.id, row.object_key) for row in rows]

    async def forget(self, ids: Sequence[int]) -> None:
        """Remove the rows of inputs whose objects are gone."""
        await self._database.run(_FORGET, {"ids": list(ids)})


def _input(row: Row) -> InputRow:
    return InputRow(**row._asdict())  # documented accessor despite its name
