"""The import from another database, which is only read."""

import asyncio

from job_service.legacy import (
    bulk_load,
    cutover,
    dry_run,
    former,
    import_record,
    raw_copy,
    removal,
    source_views,
)
from job_service.legacy.importing import Import
from job_service.legacy.inspection import Found, inspect
from job_service.legacy.options import Options
from job_service.legacy.progress import Progress
from job_service.legacy.ranges.passes import VerificationError
from job_service.legacy.session import Driver, ImportFailedError, connect
from job_service.store import migrate
from job_service.store.migrate import SchemaState


async def bring_over(run: Import, source_url: str) -> None:
    """Import the rows of the database ``source_url``.

    Raises ImportFailedError; when it is a VerificationError, what was imported is gone again.
    """
    driver = run.driver
    async with connect(source_url) as source:
        found = await inspect(source)
        if found is None:
            raise ImportFailedError(
                "the database of --from has none of the former tables "
                f"({', '.join(former.JOB_TABLES)})"
            )
        run.announce(found, _plan(run.options))
        if not run.options.dry_run:
            await _make_tables(run)
        with Progress(run.say, "copied", found) as progress:
            raw = await raw_copy.copy(source, driver, found, progress.advance)
    if run.options.dry_run:
        await dry_run.read(run, raw)
        return
    phase, _ = await import_record.state(driver)
    over = phase == "cut over"
    await source_views.create(driver, raw)
    if not over:
        await _refuse_taken_ids(driver)
    await run.begin(raw)
    await bulk_load.defer_indexes(driver)
    try:
        await _pass_over(run, raw, only_new=over)
    except ImportFailedError as error:
        if isinstance(error, VerificationError):
            await removal.remove_imported(driver)
        await bulk_load.complete(driver)
        raise
    if over or run.options.cutover:
        await import_record.cut_over(driver, {"mode": "from"})
    run.report.verified = True


async def _pass_over(run: Import, raw: Found, *, only_new: bool) -> None:
    passes = await run.passes(raw)
    everything = only_new or run.options.cutover
    run.report.phase = "cut over" if everything else "importing"
    with Progress(run.say, "imported", raw) as progress:
        await passes.run(
            run.driver.transaction,
            progress.advance,
            all_states=everything,
            only_new=only_new,
        )
    await bulk_load.complete(run.driver)
    await cutover.raise_sequence(run.driver, raw.max_id)
    await run.settle(raw, passes)


async def _make_tables(run: Import) -> None:
    check = await asyncio.to_thread(migrate.check, run.options.url)
    if check is SchemaState.UNKNOWN:
        raise ImportFailedError("a newer version of job_service migrated this database")
    if check is not SchemaState.CURRENT:
        if await inspect(run.driver) is not None:
            raise ImportFailedError(
                "this database has former tables of its own: import them in place, without --from"
            )
        await bulk_load.complete(run.driver)  # of an import by the version before
        await asyncio.to_thread(migrate.upgrade_under_lock, run.options.url)


async def _refuse_taken_ids(driver: Driver) -> None:
    cursor = await driver.execute(
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


def _plan(options: Options) -> list[str]:
    states = (
        "bring over everything, jobs that are not at rest too"
        if options.cutover
        else "bring over what is at rest; jobs that are not are left to --cutover"
    )
    return [
        "copy the former rows into temporary tables here; the other database is only read",
        f"{states}, by batches, and compare each batch with what it came from",
    ]
