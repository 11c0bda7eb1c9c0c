"""Whether the jobs say all that the former rows said.

Each former field is worked out anew from what the jobs hold (the mapping read backwards) and
compared, by the sum over all rows of a hash of id and value. Both sides are PostgreSQL's doing.
"""

from typing import Final

from job_service.legacy import former
from job_service.legacy.mapping.backwards import FIELDS, SHOWN
from job_service.legacy.ranges.checksums import Checked, Checksum
from job_service.legacy.ranges.reading import ROWS, Range
from job_service.legacy.session import Driver, one, statements
from job_service.legacy.source_views import VIEWS
from job_service.store.database import Row, statement


def _from(source: str) -> str:
    """The rows that were read last, each with its job.

    These are found by their keys one by one (OFFSET 0): nobody knows the tables' statistics while
    they are being filled, and no other way is good for one row as well as for all of a range.
    """
    part = (
        "LEFT JOIN LATERAL (SELECT source_id FROM legacy_rows"
        " WHERE outcome = 'combined' AND job_id = before.job_id OFFSET 0) AS part ON true"
        if source == former.JOBS
        else ""
    )
    return f"""
    FROM {ROWS[source]} AS old
    CROSS JOIN LATERAL (
        SELECT job_id, outcome FROM legacy_rows
        WHERE source = '{source}' AND source_id = old.id AND NOT conflict OFFSET 0
    ) AS before
    CROSS JOIN LATERAL (
        SELECT *, coalesce(params -> 'legacy', '{{}}') AS legacy FROM generation_jobs
        WHERE id = before.job_id AND revision = 1 OFFSET 0
    ) AS job
    {part}
    """


def _compared(source: str) -> bytes:
    """Of each field: how many rows have it, and the two sums. Each value is worked out once."""
    fields = FIELDS[source].values()
    values = ",\n".join(
        f"{old} AS old_{n}, {new} AS new_{n}" for n, (old, new) in enumerate(fields)
    )
    sums = ",\n".join(
        f"count(old_{n}), sum(hashtextextended(old_{n}, id)), sum(hashtextextended(new_{n}, id))"
        for n in range(len(fields))
    )
    return statement(
        f"SELECT count(*) FILTER (WHERE outcome = 'imported'),"
        f" count(*) FILTER (WHERE outcome = 'combined'),\n{sums} FROM ("
        f"SELECT old.id, before.outcome, {values} {_from(source)} OFFSET 0) AS compared"
    )


_COMPARED: Final = {source: _compared(source) for source in former.JOB_TABLES}


async def check(driver: Driver, range_: Range) -> Checked:
    """Compare those rows of a range that have been imported; it is the one that was read last."""
    cursor = driver.cursor()
    await cursor.execute(_COMPARED[range_.source])
    row = await cursor.fetchone()
    assert row is not None, "aggregates answer one row"
    imported, combined, *sums = row
    fields = {
        name: Checksum(sums[3 * n], int(sums[3 * n + 1] or 0), int(sums[3 * n + 2] or 0))
        for n, name in enumerate(FIELDS[range_.source])
    }
    return Checked(imported, combined, fields)


async def examples(driver: Driver, range_: Range, field: str) -> list[Row]:
    """The first rows of that range whose ``field`` is not what it was: id, before, after."""
    old, new = FIELDS[range_.source][field]
    shown_old, shown_new = SHOWN.get(field, (old, new))
    return list(
        await statements(driver).rows(
            statement(
                f"SELECT old.id, left({shown_old}, 80) AS before, left({shown_new}, 80) AS after"
                f" {_from(range_.source)} WHERE ({old}) IS DISTINCT FROM ({new})"
                " ORDER BY old.id LIMIT 3"
            )
        )
    )


async def count(driver: Driver, source: str) -> tuple[int, int]:
    """How many former rows there are, and how many of them are not imported."""
    rows, missing = await one(
        driver,
        f"SELECT count(*), count(*) FILTER (WHERE before.source_id IS NULL)"
        f" FROM {VIEWS[source]} AS old LEFT JOIN legacy_rows AS before"
        f" ON before.source = '{source}' AND before.source_id = old.id",
    )
    return rows, missing
