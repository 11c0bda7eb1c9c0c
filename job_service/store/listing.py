"""Statements that page through jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from job_service.store.conditions import JobConditions
from job_service.store.database import Database, statement
from job_service.store.tables import JOB_COLUMNS_SQL, JobRow


class Order(Enum):
    """How a list is ordered: by which time, and in which direction. Ties go by id."""

    CREATED_DESC = "created_at", "DESC"
    CREATED_ASC = "created_at", "ASC"
    UPDATED_DESC = "updated_at", "DESC"
    COMPLETED_DESC = "completed_at", "DESC"

    @property
    def column(self) -> str:
        """The column it is ordered by."""
        return self.value[0]

    @property
    def direction(self) -> str:
        """ASC or DESC."""
        return self.value[1]

    def place_of(self, row: JobRow) -> tuple[datetime, int]:
        """Where a row stands in this order: what the next page starts after."""
        moment: datetime = getattr(row, self.column)
        return moment, row.id


@dataclass(frozen=True, slots=True)
class JobListing:
    """One page: at most ``limit`` jobs and ``max_bytes`` of text, from just after ``after``."""

    conditions: JobConditions
    limit: int
    max_bytes: int
    order: Order = Order.CREATED_DESC
    after: tuple[datetime, int] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs in their order; ``more``: there are others after them."""

    jobs: Sequence[JobRow]
    more: bool


# Each state is read for itself, in the order asked for, as far as the page could reach.
#
# The running sum keeps a thousand jobs with large texts out of memory: what would not fit into an
# answer is not fetched.
_PAGE: Final = f"""
SELECT {JOB_COLUMNS_SQL}, job.found
FROM (
    SELECT *, count(*) OVER () AS found,
        row_number() OVER (ORDER BY {{column}} {{direction}}, id {{direction}}) AS place,
        sum(
            octet_length(prompt) + octet_length(negative_prompt)
            + octet_length(CAST(params AS text)) + coalesce(octet_length(workflow), 0)
        ) OVER (ORDER BY {{column}} {{direction}}, id {{direction}}) AS bytes
    FROM (
        SELECT * FROM ({{heads}}) AS heads
        ORDER BY {{column}} {{direction}}, id {{direction}} LIMIT :limit
    ) AS head
) AS job
WHERE job.place = 1 OR job.bytes <= :max_bytes
ORDER BY job.place
"""

_HEAD: Final = """(
    SELECT job.* FROM generation_jobs AS job WHERE {where}
    ORDER BY {column} {direction}, id {direction} LIMIT :limit
)"""

_COUNT: Final = "(SELECT count(*) FROM generation_jobs AS job WHERE {where})"

_MATCHING: Final = """
SELECT job.id FROM generation_jobs AS job WHERE {where} AND job.id = ANY(:among)
"""


class ListingStore:
    """Pages through the table, keyed on the last row seen."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, listing: JobListing) -> Page:
        """The jobs of one page, as far as their texts fit into ``max_bytes``; at least one."""
        states, parameters = listing.conditions.by_status()
        column, direction = listing.order.column, listing.order.direction
        clauses: list[str] = []
        if listing.order is Order.COMPLETED_DESC:
            clauses.append("job.completed_at IS NOT NULL")
        if listing.after is not None:
            comparison = ">" if direction == "ASC" else "<"
            clauses.append(f"(job.{column}, job.id) {comparison} (:after_time, :after_id)")
            parameters |= {"after_time": listing.after[0], "after_id": listing.after[1]}
        heads = " UNION ALL ".join(
            _HEAD.format(where=" AND ".join([state, *clauses]), column=column, direction=direction)
            for state in states
        )
        sql = _PAGE.format(heads=heads, column=column, direction=direction)
        rows = await self._database.rows(
            statement(sql),
            parameters | {"limit": listing.limit + 1, "max_bytes": listing.max_bytes},
        )
        jobs = [JobRow.of(row) for row in rows][: listing.limit]
        return Page(jobs, more=bool(rows) and rows[0].found > len(jobs))

    async def count(self, conditions: JobConditions) -> int:
        """How many jobs there are on all pages together."""
        states, parameters = conditions.by_status()
        counts = " + ".join(_COUNT.format(where=state) for state in states)
        row = await self._database.row(statement(f"SELECT {counts} AS jobs"), parameters)
        assert row is not None, "count answers one row"
        return int(row.jobs)

    async def matching(self, conditions: JobConditions, among: Sequence[int]) -> set[int]:
        """Which of these jobs match."""
        where, parameters = conditions.where()
        rows = await self._database.rows(
            statement(_MATCHING.format(where=where)), parameters | {"among": list(among)}
        )
        return {row.id for row in rows}
