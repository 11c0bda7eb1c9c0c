"""What an import has to show for itself, read from its tables into the report."""

from typing import Final

from job_service.legacy import former, models
from job_service.legacy.inspection import Found
from job_service.legacy.mapping.backwards import MERGED
from job_service.legacy.ranges import verification
from job_service.legacy.ranges.passes import Passes, VerificationError
from job_service.legacy.ranges.reading import Range
from job_service.legacy.report import Report, RowList
from job_service.legacy.session import Driver, one

_FETCHED: Final = 500

_LISTED: Final = """
SELECT before.source, before.source_id, before.job_id, before.outcome, before.conflict, (
    SELECT jsonb_agg(jsonb_build_object(
        'field', regexp_replace(field, '^request\\.', ''),
        'old', job.params #> ARRAY['legacy', field, 'value'],
        'why', job.params #>> ARRAY['legacy', field, 'why']
    ) ORDER BY n)
    FROM unnest(before.adjusted) WITH ORDINALITY AS adjusted (field, n)
) AS fields
FROM legacy_rows AS before LEFT JOIN generation_jobs AS job ON job.id = before.job_id
WHERE (before.outcome = 'combined' OR before.adjusted IS NOT NULL OR before.conflict) {condition}
ORDER BY before.source, before.source_id
"""

# As PostgreSQL writes them, the lines have every number as it was there.
_LINES: Final = """
SELECT kind, CAST(json_build_object(
    'kind', kind, 'table', source, 'id', source_id, 'job_id', job_id,
    'fields', CASE kind WHEN 'adjusted' THEN fields ELSE '[]' END
) AS text)
FROM ({rows}) AS listed
CROSS JOIN LATERAL (VALUES
    ('conflict', conflict),
    ('combined', NOT conflict AND outcome = 'combined'),
    ('adjusted', NOT conflict AND fields IS NOT NULL)
) AS said (kind, applies)
WHERE applies
"""


async def remember_rows(driver: Driver, range_: Range) -> None:
    """In a dry run: keep what there is to list of a range, before its jobs are forgotten."""
    condition = (
        f"AND (before.source = '{range_.source}' AND before.source_id > {range_.after}"
        f" AND before.source_id <= {range_.upto} AND before.outcome = 'imported'"
        " OR before.outcome = 'combined' AND EXISTS (SELECT FROM import_batch"
        " WHERE import_batch.job_id = before.job_id))"
    )
    await driver.execute(
        f"INSERT INTO import_listed {_LISTED.format(condition=condition)}".encode()
    )


async def list_remembered(driver: Driver, rows: RowList) -> None:
    """List what a dry run has kept."""
    await _list(driver, rows, "SELECT * FROM import_listed ORDER BY source, source_id")


async def list_rows(driver: Driver, rows: RowList) -> None:
    """List what was combined, adjusted or left alone."""
    await _list(driver, rows, _LISTED.format(condition=""))


async def _list(driver: Driver, rows: RowList, query: str) -> None:
    """List rows; a server-side cursor bounds the memory."""
    async with driver.transaction(), driver.cursor(name="listed") as cursor:
        await cursor.execute(_LINES.format(rows=query).encode())
        while lines := await cursor.fetchmany(_FETCHED):
            rows.add_lines(lines)


async def settle(driver: Driver, found: Found, passes: Passes, report: Report) -> None:
    """Fill in counts and checksums.

    Raises VerificationError when rows are missing, or have not arrived as they were.
    """
    for name, checked in passes.checked.items():
        before, missing = await verification.count(driver, name)
        (conflicts,) = await one(
            driver, f"SELECT count(*) FROM legacy_rows WHERE source = '{name}' AND conflict"
        )
        imported, combined = await one(
            driver,
            "SELECT count(*) FILTER (WHERE outcome = 'imported'),"
            f" count(*) FILTER (WHERE outcome = 'combined') FROM legacy_rows"
            f" WHERE source = '{name}'",
        )
        there = {MERGED.get(column, column) for column in found.tables[name].columns}
        waiting = missing if report.phase == "importing" and not report.dry_run else 0
        report.counts[name] = {
            "before": before,
            "after": imported + combined,
            "imported": imported,
            "combined": combined,
            "waiting": waiting,
            "conflicts": conflicts,
        }
        report.checksums += [
            {
                "table": name,
                "field": field,
                "rows": sums.rows,
                "before": str(sums.before),
                "after": str(sums.after),
            }
            for field, sums in checked.fields.items()
            if sums.rows or sums.after or field in there
        ]
        if missing != waiting:
            raise VerificationError(f"{missing - waiting} rows of {name} have not arrived")
    if found.models is not None:
        await _settle_models(driver, found, report)


async def _settle_models(driver: Driver, found: Found, report: Report) -> None:
    assert found.models is not None
    there, here, before, after = await models.check_models(driver, found.models)
    report.counts[former.MODELS] = {"before": there, "after": here}
    report.checksums.append(
        {
            "table": former.MODELS,
            "field": "row",
            "rows": there,
            "before": str(before),
            "after": str(after),
        }
    )
    if there != here or before != after:
        raise VerificationError(f"rows of {former.MODELS} have not arrived as they were")
