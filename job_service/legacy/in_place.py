"""The import of former tables that are in the service's own database."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from psycopg import IsolationLevel

from job_service.legacy import (
    account,
    bulk_load,
    cutover,
    dry_run,
    former,
    import_record,
    source_views,
    staging,
)
from job_service.legacy.importing import Import
from job_service.legacy.inspection import KEPT_SCHEMA, Found, inspect
from job_service.legacy.options import Options
from job_service.legacy.progress import Progress
from job_service.legacy.ranges.passes import Passes, VerificationError
from job_service.legacy.session import Driver, ImportFailedError


async def bring_over(run: Import) -> None:
    """Import, and cut over when that is asked for.

    Raises ImportFailedError; when it is a VerificationError, what was imported is gone again.
    """
    driver = run.driver
    found = await inspect(driver)
    if found is None:
        raise ImportFailedError(
            f"this database has none of the former tables ({', '.join(former.JOB_TABLES)})"
        )
    run.announce(found, _plan(run.options, found))
    # Of names that are taken people hear before the work, not after it.
    await staging.refuse_taken_tables(driver, found.schema)
    if run.options.dry_run:
        await dry_run.read(run, found)
        return
    await staging.make(driver, run.options.url)
    try:
        oids = [table.oid for table in found.tables.values()]
        await staging.refuse_taken_names(driver, found.schema, oids)
    except ImportFailedError:
        await staging.drop(driver)
        raise
    await bulk_load.defer(driver)
    await run.begin(found)
    try:
        passes = await _first_passes(run, found)
        if run.options.cutover:
            await bulk_load.complete(driver)
            await _cut_over(run, found, passes)
        else:
            await run.settle(found, passes)
    except VerificationError:
        await staging.drop(driver)
        raise
    run.report.verified = True


async def _first_passes(run: Import, found: Found) -> Passes:
    await source_views.create(run.driver, found)
    passes = await run.passes(found)
    with Progress(run.say, "imported", found) as progress:
        await passes.run(partial(_repeatable, run.driver), progress.advance, all_states=False)
    return passes


async def _cut_over(run: Import, found: Found, passes: Passes) -> None:
    late: Passes = passes

    async def catch_up() -> None:
        # Of a try before nothing is left, in the tables as in what is remembered of them.
        nonlocal late
        late = passes.anew(run.batch())
        await late.catch_up()
        run.report.phase = "cut over"
        run.report.counts.clear()
        run.report.checksums.clear()
        await account.settle(run.driver, found, late, run.report)

    try:
        await cutover.cut_over(run.driver, found, catch_up, run.say)
    except BaseException:
        run.report.phase = "importing"
        raise
    await cutover.finish(run.driver)
    await run.conclude(late)


async def check_again(run: Import) -> None:
    """Where the service's tables are in place already: finish what is left to do, and compare.

    Raises ImportFailedError, VerificationError.
    """
    driver = run.driver
    phase, facts = await import_record.state(driver)
    if phase != "cut over" or facts.get("mode") != "in place":
        if await inspect(driver) is None:
            raise ImportFailedError(
                f"this database has none of the former tables ({', '.join(former.JOB_TABLES)})"
            )
        raise ImportFailedError(
            "job_service has its tables in this database already: import the former ones "
            "beside them with --from and this database's own URL"
        )
    run.report.phase = phase
    found = await inspect(driver, KEPT_SCHEMA)
    if found is None:
        run.report.plan = ["nothing: the import is complete, and the former tables dropped"]
        run.report.print_found(run.say)
        run.report.verified = True
        return
    run.announce(found, ["check once more: the import is complete, and changes nothing any more"])
    if run.options.dry_run:
        async with _repeatable(driver, undone=True):
            await _check(run, found, driver.transaction)
    else:
        await cutover.finish(driver)
        await _check(run, found, partial(_repeatable, driver))
    run.report.verified = True


async def _check(
    run: Import, found: Found, atomic: Callable[[], AbstractAsyncContextManager[Any]]
) -> None:
    await source_views.create(run.driver, found)
    passes = await run.passes(found)
    await passes.run(atomic, _nobody, all_states=True, only_new=True)
    await run.settle(found, passes)


@asynccontextmanager
async def _repeatable(driver: Driver, *, undone: bool = False) -> AsyncIterator[None]:
    """A transaction in which the former rows stay what they are while they are compared.

    ``undone``: nothing of it is left.
    """
    await driver.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    try:
        async with driver.transaction(force_rollback=undone):
            yield
    finally:
        await driver.set_isolation_level(None)


def _nobody(_table: str, _rows: int) -> None:
    """For passes that nobody waits for long."""


def _plan(options: Options, found: Found) -> list[str]:
    if options.cutover:
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
        last = ["leave the former tables as they are, and jobs that are not at rest to --cutover"]
    return [
        f"make job_service's tables in schema {staging.STAGING}",
        "bring the rows over by batches, and compare each batch with what it came from",
        *last,
    ]
