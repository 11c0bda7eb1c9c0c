"""Passes over the former tables: range by range, each brought over and compared at once."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from job_service.legacy import former, models
from job_service.legacy.inspection import Found
from job_service.legacy.ranges import changes, matching, verification
from job_service.legacy.ranges.batch import BatchImport, Done
from job_service.legacy.ranges.checksums import Checked, total
from job_service.legacy.ranges.predecessors import Event
from job_service.legacy.ranges.reading import Range
from job_service.legacy.ranges.writing import IdCollisionError
from job_service.legacy.session import Driver, ImportFailedError, one
from job_service.legacy.source_views import VIEWS

LOWEST: Final = -(2**63)
HIGHEST: Final = 2**63 - 1

# A range is a small part of every table, also of one that the planner knows nothing of yet.
_BY_INDEX: Final = b"SET LOCAL enable_seqscan = off; SET LOCAL enable_memoize = off"
_AS_PLANNED: Final = b"SET LOCAL enable_seqscan = on; SET LOCAL enable_memoize = on"
_ANALYSE: Final = (
    b"ANALYZE generation_jobs (id), job_artifacts (job_id), legacy_rows (source, source_id, job_id)"
)

Advance: TypeAlias = Callable[[str, int], None]


class VerificationError(ImportFailedError):
    """What arrived is not what was there."""


@dataclass(slots=True)
class _Table:
    """How far a table is known: its ranges end at ``ends``, and the last one is open.

    By where a range begins: how many rows it had, and what was compared. ``late``: of rows that
    were brought over apart from their ranges.
    """

    ends: list[int] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)
    checked: dict[int, Checked] = field(default_factory=dict)
    late: list[Checked] = field(default_factory=list)

    @property
    def beginnings(self) -> list[int]:
        """Where each range begins."""
        return [LOWEST, *self.ends]


class Passes:
    """Repeated passes of one import.

    ``atomic``: opens a transaction for a range. ``on_range`` is called in it, once the range is
    brought over and agrees.
    """

    def __init__(
        self,
        driver: Driver,
        found: Found,
        batch: BatchImport,
        *,
        batch_rows: int,
        on_range: Callable[[Range], Any] | None = None,
    ) -> None:
        self._driver = driver
        self._found = found
        self._batch = batch
        self._batch_rows = batch_rows
        self._on_range = on_range
        self._tables = {name: _Table() for name in former.JOB_TABLES if name in found.tables}
        self._ranges_done = 0
        self._horizon = 0
        self.events: list[Event] = []

    def anew(self, batch: BatchImport) -> "Passes":
        """Another pass from where this one is, leaving this one as it is."""
        again = Passes(
            self._driver,
            self._found,
            batch,
            batch_rows=self._batch_rows,
            on_range=self._on_range,
        )
        again._tables = {
            name: _Table(list(table.ends), dict(table.rows), dict(table.checked))
            for name, table in self._tables.items()
        }
        again._horizon = self._horizon
        again.events = list(self.events)
        return again

    async def run(
        self,
        atomic: Callable[[], AbstractAsyncContextManager[Any]],
        advance: Advance,
        *,
        all_states: bool,
        only_new: bool = False,
    ) -> None:
        """Bring over and compare everything that is not at its latest.

        Raises VerificationError, ImportFailedError.
        """
        self._horizon = await changes.horizon(self._driver)
        await matching.match(self._driver, only_new=only_new)
        if self._found.models is not None:
            await models.import_models(self._driver, self._found.models)
        for name, table in self._tables.items():
            async for range_, rows in self._ranges(name, table):
                async with atomic():
                    await self._driver.execute(_BY_INDEX)
                    done = await self._import(range_, all_states=all_states, only_new=only_new)
                    table.rows[range_.after] = done.rows
                    self.events += done.events
                    if done.changed or range_.after not in table.checked:
                        table.checked[range_.after] = await self._check(range_)
                        if self._on_range is not None:
                            await self._on_range(range_)
                advance(name, rows)
                await self._analyse()

    async def catch_up(self) -> None:
        """In one transaction, with the tables locked: what a run of this import has not seen.

        Jobs that are not at rest, too. Raises VerificationError, ImportFailedError.
        """
        await changes.note_waiting(self._driver, self._found)
        again = await changes.since(
            self._driver,
            self._found,
            self._horizon,
            {name: table.ends for name, table in self._tables.items()},
            {
                name: [table.rows[after] for after in table.beginnings]
                for name, table in self._tables.items()
            },
        )
        if self._found.models is not None:
            await models.import_models(self._driver, self._found.models)
        await self._driver.execute(_BY_INDEX)
        for name, table in self._tables.items():
            for after, upto in _numbered(table.beginnings, again[name]):
                range_ = Range(name, after, upto)
                done = await self._import(range_, all_states=True, only_new=False)
                self.events += done.events
                table.checked[after] = await self._check(range_)
            waiting = Range(name, LOWEST, HIGHEST)
            done = await self._import(waiting, all_states=True, only_new=False, waiting=True)
            if done.rows:
                table.late.append(await self._check(waiting))
        await self._driver.execute(_AS_PLANNED)

    @property
    def checked(self) -> dict[str, Checked]:
        """What was compared, by table."""
        return {
            name: total([*table.checked.values(), *table.late])
            for name, table in self._tables.items()
        }

    async def _analyse(self) -> None:
        """Have the planner know how much there is by now: each time it is twice as much."""
        self._ranges_done += 1
        if self._ranges_done & (self._ranges_done - 1) == 0:
            await self._driver.execute(_ANALYSE)

    async def _import(
        self, range_: Range, *, all_states: bool, only_new: bool, waiting: bool = False
    ) -> Done:
        try:
            return await self._batch.run(
                range_, all_states=all_states, only_new=only_new, waiting=waiting
            )
        except IdCollisionError as error:
            raise ImportFailedError(_collision(error.ids)) from error

    async def _check(self, range_: Range) -> Checked:
        checked = await verification.check(self._driver, range_)
        if checked.differing:
            raise VerificationError(await self._differences(range_, checked.differing))
        return checked

    async def _differences(self, range_: Range, fields: Sequence[str]) -> str:
        lines = ["what arrived is not what was there:"]
        for name in fields:
            lines += [
                f"{range_.source} {row.id}, {name}: was {row.before!r}, became {row.after!r}"
                for row in await verification.examples(self._driver, range_, name)
            ]
        return "\n  ".join(lines)

    async def _ranges(self, name: str, table: _Table) -> AsyncIterator[tuple[Range, int]]:
        """All ranges; those before have the ends they had in the pass before."""
        after = LOWEST
        for upto in [*table.ends]:
            yield Range(name, after, upto), self._batch_rows
            after = upto
        while True:
            end, rows = await one(
                self._driver,
                f"SELECT max(id), count(*) FROM (SELECT id FROM {VIEWS[name]} WHERE id > {after}"
                f" ORDER BY id LIMIT {self._batch_rows}) AS next",
            )
            if rows < self._batch_rows:
                table.checked.pop(after, None)
                yield Range(name, after, HIGHEST), rows
                return
            table.ends.append(end)
            table.checked.pop(after, None)
            yield Range(name, after, end), rows
            after = end


def _numbered(beginnings: Sequence[int], numbers: set[int]) -> list[tuple[int, int]]:
    """Beginning and end of the ranges with these numbers, in order."""
    ends = [*beginnings[1:], HIGHEST]
    return [(beginnings[number], ends[number]) for number in sorted(numbers)]


def _collision(ids: Sequence[int]) -> str:
    return (
        f"jobs of other origin have ids of former jobs: {', '.join(map(str, ids))}. If these are "
        "former requests that were given new ids, undo the import and give --id-headroom a larger "
        "number"
    )
