"""The former rows of a range are read once, into temporary tables, and worked with from there."""

from dataclasses import dataclass
from typing import Final

from job_service.legacy import former
from job_service.legacy.ranges.changes import WAITING
from job_service.legacy.session import Driver, statements
from job_service.store.database import statement

#: Where the rows that were read last are, by former table.
ROWS: Final = {former.JOBS: "import_job", former.REQUESTS: "import_request"}

CREATE_TABLES: Final = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS import_job AS SELECT * FROM old_job LIMIT 0",
    "CREATE TEMPORARY TABLE IF NOT EXISTS import_request AS SELECT * FROM old_request LIMIT 0",
)

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


@dataclass(frozen=True, slots=True)
class Range:
    """Former ids above ``after`` and up to ``upto``."""

    source: str
    after: int
    upto: int

    @property
    def ends(self) -> dict[str, int]:
        """Both, as parameters of statements."""
        return {"after": self.after, "upto": self.upto}


async def read(driver: Driver, range_: Range, *, waiting: bool) -> int:
    """Read the range; how many of its own rows there are.

    ``waiting``: only those that are known to have waited.
    """
    await driver.execute(b"TRUNCATE import_job, import_request")
    sql = statements(driver)
    own, *parts = (_READ_WAITING if waiting else _READ)[range_.source]
    rows = await sql.run(statement(own), range_.ends)
    for part in parts:
        await sql.run(statement(part), range_.ends)
    return rows
