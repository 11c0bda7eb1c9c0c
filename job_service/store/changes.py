"""What has changed in the table since a point in its history, deletions included.

A point is a snapshot of the transactions that were committed then, not a number that the latest
change had: a transaction with a lower number that commits late would never be found. It is told
once all of them are on the disk: a server that crashes gives the numbers of lost ones again, and
who goes on from there would take the next changes for known.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self
from uuid import UUID

from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.database import Database, Row, statement

_LAST_XID: Final = 2**64 - 1

# The end of the log is read after the snapshot: whatever that sees is before it.
_SNAPSHOT: Final = """
CAST(pg_current_snapshot() AS text) AS snapshot,
pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn() AS is_on_disk
"""

_POSITION: Final = statement(f"SELECT {_SNAPSHOT}")

# Each span of transactions is one range of one index; so the cost is that of what has changed.
_CHANGES: Final = statement(f"""
WITH span AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:lows AS xid8[]), CAST(:highs AS xid8[])) AS s (low, high)
), change AS (
    SELECT found.* FROM span CROSS JOIN LATERAL (
        SELECT id, user_id, status, changed_xid AS xid FROM generation_jobs
        WHERE changed_xid BETWEEN span.low AND span.high
            AND (changed_xid, id) > (CAST(:after_xid AS xid8), CAST(:after_id AS bigint))
        ORDER BY changed_xid, id LIMIT :most
    ) AS found
    UNION ALL
    SELECT found.* FROM span CROSS JOIN LATERAL (
        SELECT job_id, user_id, NULL, deleted_xid FROM job_tombstones
        WHERE deleted_xid BETWEEN span.low AND span.high
            AND (deleted_xid, job_id) > (CAST(:after_xid AS xid8), CAST(:after_id AS bigint))
        ORDER BY deleted_xid, job_id LIMIT :most
    ) AS found
    ORDER BY xid, id LIMIT :most
)
SELECT {_SNAPSHOT}, CAST(horizon.swept_xid AS text) AS swept_xid,
    page.ids, page.user_ids, page.statuses, CAST(page.last_xid AS text) AS last_xid
FROM job_tombstone_horizon AS horizon CROSS JOIN (
    SELECT array_agg(id ORDER BY xid, id) AS ids,
        array_agg(user_id ORDER BY xid, id) AS user_ids,
        array_agg(status ORDER BY xid, id) AS statuses,
        max(xid) AS last_xid
    FROM change
) AS page
""")

_SWEEP: Final = statement("""
WITH swept AS (
    DELETE FROM job_tombstones WHERE job_id IN (
        SELECT job_id FROM job_tombstones WHERE deleted_at < now() - CAST(:retention AS interval)
        ORDER BY deleted_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING deleted_xid
)
UPDATE job_tombstone_horizon
SET swept_xid = greatest(swept_xid, (SELECT max(deleted_xid) FROM swept))
WHERE EXISTS (SELECT FROM swept)
RETURNING (SELECT count(*) FROM swept) AS swept
""")


@dataclass(frozen=True, slots=True)
class Position:
    """A point in the table's history.

    Transactions below ``xmin`` had ended, those from ``xmax`` on had not begun; of those between,
    ``running`` had not ended.
    """

    xmin: int
    xmax: int
    running: tuple[int, ...] = ()

    @classmethod
    def parse(cls, snapshot: str) -> Self:
        """The point at which PostgreSQL took a ``pg_snapshot``."""
        xmin, xmax, running = snapshot.split(":")
        return cls(int(xmin), int(xmax), tuple(int(xid) for xid in running.split(",") if xid))

    @classmethod
    def before(cls, xmin: int) -> Self:
        """The point before ``xmin`` and everything later."""
        return cls(xmin, xmin)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last of the transactions whose changes were not visible yet."""
        return [*((xid, xid) for xid in self.running), (self.xmax, _LAST_XID)]


@dataclass(frozen=True, slots=True)
class Change:
    """A job that is new, has changed or is gone, and whose it is.

    ``status``: the one it has now; None: it is deleted.
    """

    job_id: int
    user_id: UUID | None
    status: str | None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Some changes, each job's latest, in the order of their transactions.

    ``position``: the point they were read at. ``is_kept``: what it sees is on the disk; else it is
    only to be gone on from once ``ChangeStore.keep`` has returned.
    """

    changes: Sequence[Change]
    position: Position
    is_kept: bool


class ChangeStore:
    """Reads what has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(self) -> Position:
        """The present."""
        row = await self._database.row(_POSITION)
        assert row is not None, "the statement answers one row"
        return await self.keep(_page(row, ()))

    async def keep(self, page: ChangePage) -> Position:
        """The position of a page, once it may be gone on from."""
        if not page.is_kept:
            await self._database.flush()
        return page.position

    async def since(self, position: Position, most: int = 500) -> AsyncIterator[ChangePage]:
        """Everything that has changed since ``position``, in pages; at least one, maybe empty.

        Whoever has read to the end knows everything up to the position of the **first** page; what
        changes while pages are read may be on a later one, or not.

        Raises RefusedError: RESUME_TOKEN_EXPIRED when deletions since then are forgotten, or the
        position is not one of this database.
        """
        lows, highs = zip(*((str(low), str(high)) for low, high in position.spans), strict=True)
        after_xid, after_id = "0", 0
        while True:
            row = await self._database.row(
                _CHANGES,
                {
                    "lows": list(lows),
                    "highs": list(highs),
                    "after_xid": after_xid,
                    "after_id": after_id,
                    "most": most,
                },
            )
            assert row is not None, "the statement answers one row"
            page = _page(row, _changes(row))
            _check(position, page.position, int(row.swept_xid))
            yield page
            if len(page.changes) < most:
                return
            after_xid, after_id = row.last_xid, page.changes[-1].job_id

    async def sweep(self, retention: timedelta, most: int = 1000) -> int:
        """Forget jobs that were deleted longer than ``retention`` ago; how many."""
        row = await self._database.row(_SWEEP, {"retention": retention, "most": most})
        return 0 if row is None else row.swept


def _page(row: Row, changes: Sequence[Change]) -> ChangePage:
    return ChangePage(changes, Position.parse(row.snapshot), row.is_on_disk)


def _changes(row: Row) -> list[Change]:
    return [
        Change(job_id, user_id, status)
        for job_id, user_id, status in zip(
            row.ids or (), row.user_ids or (), row.statuses or (), strict=True
        )
    ]


def _check(since: Position, now: Position, swept_xid: int) -> None:
    if since.xmin > now.xmax:
        why = "comes from another database, or from a time that was lost with its server"
    elif swept_xid >= since.xmax:
        why = "is so old that jobs deleted since may be forgotten"
    else:
        return
    raise RefusedError(
        Refusal.RESUME_TOKEN_EXPIRED, f"the resume token {why}; open the watch anew, without one"
    )
