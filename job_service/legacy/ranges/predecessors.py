"""What rows of a range became before makes room, unless job_service has had its hands on it."""

from dataclasses import dataclass
from typing import Final

from job_service.legacy import former
from job_service.legacy.ranges.reading import ROWS, Range
from job_service.legacy.session import Driver, statements
from job_service.store.database import statement

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


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a former row besides being imported."""

    kind: str
    source: str
    source_id: int
    job_id: int


async def remove_vanished(driver: Driver, range_: Range) -> list[Event]:
    """Remove what became of former rows that are gone."""
    rows = await statements(driver).rows(
        statement(_VANISHED.format(source=range_.source, rows=ROWS[range_.source])), range_.ends
    )
    return [
        Event("removed" if row.untouched else "conflict", range_.source, *row[:2])
        for row in rows
        if row.untouched or not row.conflict
    ]


async def remove_replaced(driver: Driver, range_: Range) -> list[Event]:
    """Remove what became of rows that are due again; those whose jobs stay are due no more."""
    sql, source = statements(driver), range_.source
    conflicts = await sql.rows(statement(_CONFLICTS.format(source=source)), range_.ends)
    await sql.run(statement(_REPLACED.format(source=source)), range_.ends)
    if source == former.JOBS:
        await sql.run(statement(_ABSORBED), range_.ends)
    return [Event("conflict", source, row.source_id, row.job_id) for row in conflicts]
