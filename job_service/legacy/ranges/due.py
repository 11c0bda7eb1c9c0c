"""Which rows of a range have to be brought over, and the ids that their jobs get."""

from typing import Final

from job_service.legacy import former
from job_service.legacy.mapping.words import STATUS_WORDS
from job_service.legacy.ranges.reading import Range
from job_service.legacy.session import Driver, one, statements
from job_service.store.database import statement

CREATE_TABLE: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS import_todo (
    source_id bigint PRIMARY KEY, known boolean NOT NULL, job_id bigint NOT NULL
)
"""

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


async def note_due(driver: Driver, range_: Range, *, all_states: bool, only_new: bool) -> None:
    """Fill the temporary table ``import_todo`` from the rows that were read.

    ``all_states``: jobs that are not at rest, too. ``only_new``: leave rows alone that were
    imported before.
    """
    await driver.execute(b"TRUNCATE import_todo")
    (next_id,) = await one(driver, "SELECT next_id FROM legacy_import")
    await statements(driver).run(
        _NOTE_DUE[range_.source],
        {**range_.ends, "next_id": next_id, "all_states": all_states, "only_new": only_new},
    )
