"""Which former rows have to be looked at once more at the cutover, so that the lock is short.

A row version that was there when nothing older was under way any more is what the passes before
have read: those are told by the transaction that wrote them (``xmin``), without reading the rows.
What remains are ranges in which a row was written, deleted or matched otherwise since, and rows
that were not at rest.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from job_service.legacy import former
from job_service.legacy.inspection import Found, Table, column_names
from job_service.legacy.ranges import matching
from job_service.legacy.session import Driver, ImportFailedError, one, statements
from job_service.store.database import statement

#: Rows that no pass has brought over: they were not at rest, or are new.
WAITING: Final = "import_waiting"

_WAITING: Final = f"""
DROP TABLE IF EXISTS pg_temp.{WAITING};
CREATE TEMPORARY TABLE {WAITING} (source text, id bigint, PRIMARY KEY (source, id))
"""
_NOTE_WAITING: Final = f"""
INSERT INTO {WAITING}
SELECT '{{source}}', t.id FROM {{table}} AS t
LEFT JOIN legacy_rows AS before ON before.source = '{{source}}' AND before.source_id = t.id
WHERE before.source_id IS NULL
"""

# Of a transaction that had not ended at the horizon. The age is that of the latest transaction.
_WRITTEN_SINCE: Final = "age(t.xmin) <= age(CAST(CAST(:horizon AS xid8) AS xid))"
_RANGE_OF: Final = "width_bucket(CAST({id} AS bigint), CAST(:next AS bigint[]))"

_BY_RANGE: Final = f"""
SELECT {_RANGE_OF.format(id="t.id")} AS range, count(*) AS rows,
    bool_or({_WRITTEN_SINCE}) AS written
FROM {{table}} AS t GROUP BY 1
"""

_REMATCHED: Final = """
DROP TABLE IF EXISTS pg_temp.import_match_before, pg_temp.import_rematched;
CREATE TEMPORARY TABLE import_match_before AS SELECT * FROM import_match;
CREATE TEMPORARY TABLE import_rematched (job_id bigint, request_id bigint)
"""
# Of these pairs both rows have to be seen together: the pair is new or gone, the request was
# written, or the request had become a job of its own.
_MATCHED_OTHERWISE: Final = """
INSERT INTO import_rematched
(TABLE import_match EXCEPT TABLE import_match_before)
UNION (TABLE import_match_before EXCEPT TABLE import_match)
"""
_MATCHED_WRITTEN: Final = f"""
INSERT INTO import_rematched
SELECT match.job_id, match.request_id FROM import_match AS match
JOIN {{table}} AS t ON t.id = match.request_id WHERE {_WRITTEN_SINCE}
"""
_MATCHED_APART: Final = f"""
INSERT INTO import_rematched
SELECT match.job_id, match.request_id FROM import_match AS match
JOIN legacy_rows AS before
    ON before.source = '{former.REQUESTS}' AND before.source_id = match.request_id
WHERE before.outcome = 'imported'
"""
_THEIR_RANGES: Final = f"""
SELECT DISTINCT {_RANGE_OF.format(id="{column}")} AS range FROM import_rematched
"""

_DROP_SEEN: Final = f"""
DELETE FROM {WAITING} WHERE source = :source
    AND {_RANGE_OF.format(id="id")} = ANY(CAST(:ranges AS integer[]))
"""


async def horizon(driver: Driver) -> int:
    """The oldest transaction that is under way: what ended before is seen by all that follows."""
    (oldest,) = await one(driver, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    return int(oldest)


async def note_waiting(driver: Driver, found: Found) -> None:
    """Fill the temporary table of rows that have not been brought over."""
    await driver.execute(_WAITING.encode())
    for source, table in found.tables.items():
        await driver.execute(_NOTE_WAITING.format(source=source, table=table.qualified).encode())
    await driver.execute(f"ANALYZE {WAITING}".encode())


async def since(
    driver: Driver,
    found: Found,
    horizon_: int,
    ends: Mapping[str, Sequence[int]],
    rows: Mapping[str, Sequence[int]],
) -> dict[str, set[int]]:
    """The numbers of the ranges to be looked at once more, by table.

    ``ends``: of all ranges but the last, which is open; ``rows``: how many each range had when it
    was read. When anything has changed, the matches are worked out anew. Those ranges' rows are
    taken out of the waiting ones. Raises ImportFailedError when a table's columns have changed.
    """
    changed: dict[str, set[int]] = {}
    for name, table in found.tables.items():
        await _refuse_changed_columns(driver, table)
        changed[name] = await _changed(driver, table, horizon_, ends[name], rows[name])
    if set(found.tables) == set(former.JOB_TABLES):
        await _add_rematched(driver, found, horizon_, ends, changed)
    for name, numbers in changed.items():
        await statements(driver).run(
            statement(_DROP_SEEN),
            {"source": name, "next": _next(ends[name]), "ranges": list(numbers)},
        )
    return changed


async def _changed(
    driver: Driver, table: Table, horizon_: int, ends: Sequence[int], rows: Sequence[int]
) -> set[int]:
    by_range = {
        row.range: row
        for row in await statements(driver).rows(
            statement(_BY_RANGE.format(table=table.qualified)),
            {"horizon": str(horizon_), "next": _next(ends)},
        )
    }
    changed = set()
    for number, known in enumerate(rows):
        now = by_range.get(number)
        if known != (now.rows if now else 0) or (now is not None and now.written):
            changed.add(number)
    return changed


async def _add_rematched(
    driver: Driver,
    found: Found,
    horizon_: int,
    ends: Mapping[str, Sequence[int]],
    changed: Mapping[str, set[int]],
) -> None:
    sql = statements(driver)
    await driver.execute(_REMATCHED.encode())
    if any(changed.values()):
        await matching.match(driver, only_new=False)
        await driver.execute(_MATCHED_OTHERWISE.encode())
        await sql.run(
            statement(_MATCHED_WRITTEN.format(table=found.tables[former.REQUESTS].qualified)),
            {"horizon": str(horizon_)},
        )
    await driver.execute(_MATCHED_APART.encode())
    for name, column in ((former.JOBS, "job_id"), (former.REQUESTS, "request_id")):
        changed[name].update(
            row.range
            for row in await sql.rows(
                statement(_THEIR_RANGES.format(column=column)), {"next": _next(ends[name])}
            )
        )


async def _refuse_changed_columns(driver: Driver, table: Table) -> None:
    if set(await column_names(driver, table)) != set(table.columns):
        raise ImportFailedError(
            f"{table.name} has got other columns while it was imported: run this again"
        )


def _next(ends: Sequence[int]) -> list[int]:
    """The first ids of all ranges but the first."""
    return [end + 1 for end in ends]
