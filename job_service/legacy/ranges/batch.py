"""One range of former ids: what is new or has changed there is brought over, in one transaction.

Which rows those are is told by ``legacy_rows``, so that an import may stop anywhere and go on: a
row that is there with the same checksum is done.
"""

from dataclasses import dataclass
from typing import Final

from job_service.legacy import former
from job_service.legacy.mapping.filling import CREATE_BATCH, fill_batch
from job_service.legacy.mapping.misfits import NEEDS_CHECKPOINT
from job_service.legacy.ranges import due, predecessors, reading, writing
from job_service.legacy.ranges.predecessors import Event
from job_service.legacy.ranges.reading import Range
from job_service.legacy.ranges.writing import BatchWriter
from job_service.legacy.session import Driver, statements
from job_service.store.database import statement

_TEMPORARY: Final = (
    *reading.CREATE_TABLES,
    due.CREATE_TABLE,
    CREATE_BATCH,
    *writing.CREATE_TABLES,
)

_FILL: Final = {source: statement(fill_batch(source)) for source in former.JOB_TABLES}

# A job that names a checkpoint which cannot be used keeps that.
_NAME_CHECKPOINT: Final = statement("""
UPDATE import_batch SET
    checkpoint_model = :checkpoint,
    params = jsonb_set(params, '{legacy,checkpoint_model,why}',
        '"was not named, and a picture needs one: given with --checkpoint"')
WHERE legacy #>> '{checkpoint_model,why}' = :needs
""")


@dataclass(frozen=True, slots=True)
class Done:
    """What was done in a range, of so many former rows."""

    rows: int
    imported: int
    events: tuple[Event, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is otherwise than before."""
        return bool(self.imported or self.events)


class BatchImport:
    """Brings ranges over, on one connection.

    ``running``: what becomes of jobs that were at work: pending or failed. ``max_running``: jobs of
    a user that may run at once, as the service's settings say. ``checkpoint``: for queued pictures
    that name none.
    """

    def __init__(
        self, driver: Driver, running: str, max_running: int | None, checkpoint: str | None
    ) -> None:
        self._driver = driver
        self._running = running
        self._checkpoint = checkpoint
        self._writer = BatchWriter(driver, max_running)

    async def prepare(self) -> None:
        """Make the temporary tables; the views of the former ones are there."""
        for sql in _TEMPORARY:
            await self._driver.execute(sql.encode())

    async def run(
        self, range_: Range, *, all_states: bool, only_new: bool, waiting: bool = False
    ) -> Done:
        """Bring a range over; to be called inside a transaction.

        ``all_states``: jobs that are not at rest, too. ``only_new``: leave rows alone that were
        imported before. ``waiting``: of the range only the rows that are known to have waited.
        Raises IdCollisionError.
        """
        rows = await reading.read(self._driver, range_, waiting=waiting)
        if not rows and waiting:
            return Done(0, 0, ())
        known = not only_new and not waiting
        events = await predecessors.remove_vanished(self._driver, range_) if known else []
        await due.note_due(self._driver, range_, all_states=all_states, only_new=only_new)
        if known:
            events += await predecessors.remove_replaced(self._driver, range_)
        filled = await self._fill(range_)
        if filled:
            await self._name_checkpoint()
            await self._writer.write(range_.source)
        return Done(rows, filled, tuple(events))

    async def _fill(self, range_: Range) -> int:
        await self._driver.execute(b"TRUNCATE import_batch")
        return await statements(self._driver).run(
            _FILL[range_.source], {**range_.ends, "running": self._running}
        )

    async def _name_checkpoint(self) -> None:
        if self._checkpoint is not None:
            await statements(self._driver).run(
                _NAME_CHECKPOINT, {"checkpoint": self._checkpoint, "needs": NEEDS_CHECKPOINT}
            )
