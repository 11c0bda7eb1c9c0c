"""The import as a whole: dry, in place, or from another database."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import IsolationLevel

from job_service.legacy import (
    account,
    bulk_load,
    cutover,
    former,
    raw_copy,
    shadows,
    source_views,
    staging,
    undo,
)
from job_service.legacy.ingestion import ingest
from job_service.legacy.inspection import KEPT_SCHEMA, Found, inspect, is_migrated
from job_service.legacy.progress import Progress
from job_service.legacy.ranges.batch import BatchImport
from job_service.legacy.ranges.passes import HIGHEST, Passes, VerificationError
from job_service.legacy.ranges.reading import Range
from job_service.legacy.report import Report
from job_service.legacy.session import Driver, ImportFailedError, connect, lock, one, statements
from job_service.store import migrate
from job_service.store.database import as_json, statement
from job_service.store.migrate import SchemaState


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to import.

    ``running``: what becomes of jobs that were at work, pending or failed. ``max_running``: jobs of
    a user that may run at once. ``checkpoint``: for queued pictures that name none.
    ``artifacts_root``: where files are looked for, to be taken into the store ``artifact_store``.
    """

    url: str
    source_url: str | None = None
    dry_run: bool = False
    batch: int = 10_000
    cutover: bool = False
    running: str = "pending"
    artifacts_root: Path | None = None
    artifact_store: str = ""
    id_headroom: int = 1_000_000
    max_running: int | None = None
    checkpoint: str | None = None


async def run(options: Options, report: Report, say: Callable[[str], None]) -> None:
    """Import, and fill in the report.

    Raises ImportFailedError; when it is a VerificationError, what was imported is gone again.
    """
    async with connect(options.url) as driver:
        await lock(driver)
        await _Import(driver, options, report, say).run()


class _Import:
    """One run of an import."""

    def __init__(
        self, driver: Driver, options: Options, report: Report, say: Callable[[str], None]
    ) -> None:
        self._driver = driver
        self._options = options
        self._report = report
        self._say = say

    async def run(self) -> None:
        if self._options.source_url is not None:
            await self._from(self._options.source_url)
        elif await is_migrated(self._driver):
            await self._again()
        else:
            await self._in_place()

    # -- in place

    async def _in_place(self) -> None:
        driver = self._driver
        found = await inspect(driver)
        if found is None:
            raise ImportFailedError(
                f"this database has none of the former tables ({', '.join(former.JOB_TABLES)})"
            )
        self._announce(found, self._plan_in_place(found))
        # Of names that are taken people hear before the work, not after it.
        await staging.refuse_taken_tables(driver, found.schema)
        if self._options.dry_run:
            await self._dry(found)
            return
        await staging.make(driver, self._options.url)
        try:
            oids = [table.oid for table in found.tables.values()]
            await staging.refuse_taken_names(driver, found.schema, oids)
        except ImportFailedError:
            await staging.drop(driver)
            raise
        await bulk_load.defer(driver)
        await self._begin(found)
        try:
            passes = await self._first_passes(found, self._repeatable)
            if self._options.cutover:
                await bulk_load.complete(driver)
                await self._cut_over(found, passes)
            else:
                await self._settle(found, passes)
        except VerificationError:
            await staging.drop(driver)
            raise
        self._report.verified = True

    async def _cut_over(self, found: Found, passes: Passes) -> None:
        late: Passes = passes

        async def catch_up() -> None:
            # Of a try before nothing is left, in the tables as in what is remembered of them.
            nonlocal late
            late = passes.anew(self._batch())
            await late.catch_up()
            self._report.phase = "cut over"
            self._report.counts.clear()
            self._report.checksums.clear()
            await account.settle(self._driver, found, late, self._report)

        try:
            await cutover.cut_over(self._driver, found, catch_up, self._say)
        except BaseException:
            self._report.phase = "importing"
            raise
        await cutover.finish(self._driver)
        self._list_events(late)
        await account.list_rows(self._driver, self._report.rows)
        await self._ingest()

    async def _again(self) -> None:
        """The service's tables are in place: there may be something left to do."""
        driver = self._driver
        phase, facts = await state(driver)
        if phase != "cut over" or facts.get("mode") != "in place":
            if await inspect(driver) is None:
                raise ImportFailedError(
                    f"this database has none of the former tables ({', '.join(former.JOB_TABLES)})"
                )
            raise ImportFailedError(
                "job_service has its tables in this database already: import the former ones "
                "beside them with --from and this database's own URL"
            )
        self._report.phase = phase
        found = await inspect(driver, KEPT_SCHEMA)
        if found is None:
            self._report.plan = ["nothing: the import is complete, and the former tables dropped"]
            self._report.print_found(self._say)
            self._report.verified = True
            return
        self._announce(
            found, ["check once more: the import is complete, and changes nothing any more"]
        )
        if self._options.dry_run:
            self._report.dry_run = True
        await cutover.finish(driver)
        await source_views.create(driver, found)
        await self._prepare()
        passes = self._passes(found)
        await passes.run(self._repeatable, _nobody, all_states=True, only_new=True)
        await self._settle(found, passes)
        self._report.verified = True

    def _plan_in_place(self, found: Found) -> list[str]:
        if self._options.cutover:
            last = [
                (
                    "lock the former tables for a moment, bring over what has changed meanwhile, "
                    f"and move them to schema {KEPT_SCHEMA}, where they are kept"
                ),
                f"put job_service's tables into schema {found.schema}, with bigint ids"
                + (
                    f"; foreign keys of other tables ({len(found.references)}) lead to them then"
                    if found.references
                    else ""
                ),
            ]
        else:
            last = [
                "leave the former tables as they are, and jobs that are not at rest to --cutover"
            ]
        return [
            f"make job_service's tables in schema {staging.STAGING}",
            "bring the rows over by batches, and compare each batch with what it came from",
            *last,
        ]

    # -- from another database

    async def _from(self, source_url: str) -> None:
        driver = self._driver
        async with connect(source_url) as source:
            found = await inspect(source)
            if found is None:
                raise ImportFailedError(
                    "the database of --from has none of the former tables "
                    f"({', '.join(former.JOB_TABLES)})"
                )
            self._announce(found, self._plan_from())
            if not self._options.dry_run:
                await self._own_tables()
            with Progress(self._say, "copied", found) as progress:
                raw = await raw_copy.copy(source, driver, found, progress.advance)
        if self._options.dry_run:
            await self._dry(raw)
            return
        phase, _ = await state(driver)
        over = phase == "cut over"
        await source_views.create(driver, raw)
        if not over:
            await self._refuse_taken_ids()
        await self._begin(raw)
        await bulk_load.defer_indexes(driver)
        try:
            await self._passes_from(raw, only_new=over)
        except ImportFailedError as error:
            if isinstance(error, VerificationError):
                await undo.remove_imported(driver)
            await bulk_load.complete(driver)
            raise
        if over or self._options.cutover:
            await self._mark_cut_over()
        self._report.verified = True

    async def _passes_from(self, raw: Found, *, only_new: bool) -> Passes:
        await self._prepare()
        passes = self._passes(raw)
        everything = only_new or self._options.cutover
        self._report.phase = "cut over" if everything else "importing"
        with Progress(self._say, "imported", raw) as progress:
            await passes.run(
                self._driver.transaction,
                progress.advance,
                all_states=everything,
                only_new=only_new,
            )
        await bulk_load.complete(self._driver)
        await cutover.raise_sequence(self._driver, raw.max_id)
        await self._settle(raw, passes)
        return passes

    async def _own_tables(self) -> None:
        check = await asyncio.to_thread(migrate.check, self._options.url)
        if check is SchemaState.UNKNOWN:
            raise ImportFailedError("a newer version of job_service migrated this database")
        if check is not SchemaState.CURRENT:
            if await inspect(self._driver) is not None:
                raise ImportFailedError(
                    "this database has former tables of its own: import them in place, without "
                    "--from"
                )
            await bulk_load.complete(self._driver)  # of an import by the version before
            await asyncio.to_thread(migrate.upgrade_under_lock, self._options.url)

    async def _refuse_taken_ids(self) -> None:
        cursor = await self._driver.execute(
            f"SELECT old.id FROM old_job AS old JOIN generation_jobs AS job USING (id)"
            f" WHERE NOT EXISTS (SELECT FROM legacy_rows AS before"
            f" WHERE before.source = '{former.JOBS}' AND before.source_id = old.id)"
            f" ORDER BY 1 LIMIT 10".encode()
        )
        taken = [str(row[0]) for row in await cursor.fetchall()]
        if taken:
            raise ImportFailedError(
                f"jobs of other origin have ids of former jobs ({', '.join(taken)}): import before "
                "the first job is created here, or into a database of its own"
            )

    async def _mark_cut_over(self) -> None:
        await statements(self._driver).run(
            statement(
                "UPDATE legacy_import SET phase = 'cut over',"
                " facts = facts || CAST(:facts AS jsonb)"
            ),
            {"facts": as_json({"mode": "from"})},
        )

    def _plan_from(self) -> list[str]:
        states = (
            "bring over everything, jobs that are not at rest too"
            if self._options.cutover
            else "bring over what is at rest; jobs that are not are left to --cutover"
        )
        return [
            "copy the former rows into temporary tables here; the other database is only read",
            f"{states}, by batches, and compare each batch with what it came from",
        ]

    # -- dry

    async def _dry(self, found: Found) -> None:
        """Go through everything in temporary tables."""
        driver = self._driver
        await source_views.create(driver, found)
        await shadows.create(driver)
        await self._begin(found)
        await self._prepare()

        async def note(range_: Range) -> None:
            await account.remember_rows(driver, range_)
            await shadows.forget_jobs(driver)

        passes = self._passes(found, note)
        with Progress(self._say, "read", found) as progress:
            await passes.run(driver.transaction, progress.advance, all_states=True)
        await account.list_remembered(driver, self._report.rows)
        await account.settle(driver, found, passes, self._report)
        self._report.verified = True

    # -- parts

    def _announce(self, found: Found, plan: list[str]) -> None:
        self._report.describe(found, remarks(found))
        self._report.plan = plan
        self._report.print_found(self._say)

    async def _begin(self, found: Found) -> None:
        """Fix where new ids begin, once for all runs of this import."""
        (highest,) = await one(self._driver, "SELECT coalesce(max(id), 0) FROM generation_jobs")
        next_id = max(found.max_id, highest) + self._options.id_headroom + 1
        if next_id > HIGHEST - 10**9:
            raise ImportFailedError(
                f"the highest id is {max(found.max_id, highest)}: above it there is no room"
            )
        await statements(self._driver).run(
            statement(
                "INSERT INTO legacy_import (phase, next_id, facts)"
                " VALUES ('importing', :next_id, CAST(:facts AS jsonb)) ON CONFLICT DO NOTHING"
            ),
            {
                "next_id": next_id,
                "facts": as_json(
                    {"mode": "in place" if self._options.source_url is None else "from"}
                ),
            },
        )

    async def _prepare(self) -> None:
        self._importer = self._batch()
        await self._importer.prepare()

    def _batch(self) -> BatchImport:
        options = self._options
        return BatchImport(self._driver, options.running, options.max_running, options.checkpoint)

    def _passes(self, found: Found, on_range: Callable[[Range], Any] | None = None) -> Passes:
        return Passes(
            self._driver,
            found,
            self._importer,
            batch_rows=self._options.batch,
            on_range=on_range,
        )

    async def _first_passes(
        self, found: Found, atomic: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> Passes:
        await source_views.create(self._driver, found)
        await self._prepare()
        passes = self._passes(found)
        with Progress(self._say, "imported", found) as progress:
            await passes.run(atomic, progress.advance, all_states=False)
        return passes

    async def _settle(self, found: Found, passes: Passes) -> None:
        await account.settle(self._driver, found, passes, self._report)
        self._list_events(passes)
        await account.list_rows(self._driver, self._report.rows)
        await self._ingest()

    def _list_events(self, passes: Passes) -> None:
        for event in passes.events:
            if event.kind == "removed":
                self._report.rows.add(event.kind, event.source, event.source_id, event.job_id)

    async def _ingest(self) -> None:
        if self._options.artifacts_root is not None and not self._options.dry_run:
            self._report.files = await ingest(
                self._driver,
                self._options.artifacts_root,
                self._options.artifact_store,
                self._say,
            )

    @asynccontextmanager
    async def _repeatable(self) -> AsyncIterator[None]:
        """A transaction in which the former rows stay what they are while they are compared."""
        await self._driver.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        try:
            async with self._driver.transaction():
                yield
        finally:
            await self._driver.set_isolation_level(None)


async def state(driver: Driver) -> tuple[str | None, dict[str, Any]]:
    """Phase and facts of the import; no phase: none has begun."""
    (there,) = await one(driver, "SELECT to_regclass('legacy_import') IS NOT NULL")
    if not there:
        return None, {}
    row = await statements(driver).row(statement("SELECT phase, facts FROM legacy_import"))
    return (None, {}) if row is None else (row.phase, row.facts)


def remarks(found: Found) -> list[str]:
    """What else a person should know."""
    said = []
    jobs, requests = found.tables.get(former.JOBS), found.tables.get(former.REQUESTS)
    for table, name in ((jobs, former.JOBS), (requests, former.REQUESTS)):
        if table is None:
            said.append(f"there is no table {name}")
        elif table.next_id is not None and table.next_id <= (table.max_id or 0):
            said.append(
                f"the sequence of {name} is behind: it gives {table.next_id} next, and the highest "
                f"id is {table.max_id}"
            )
    if requests is not None:
        kept = [one_ for one_ in found.references if one_.referred == requests.oid]
        said += [
            f"{one_.table} refers to requests: that foreign key stays with the former table"
            for one_ in kept
        ]
    said += [
        f"the view {reader} reads the former tables, and will go on reading them"
        for reader in found.readers
    ]
    return said


def _nobody(_table: str, _rows: int) -> None:
    """For passes that nobody waits for long."""
