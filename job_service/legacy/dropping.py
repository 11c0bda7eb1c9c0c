"""Drops the former tables for good, once a dump of them is written and read back."""

from collections.abc import Callable
from pathlib import Path

from job_service.legacy import dump, source_views, verification
from job_service.legacy.importing import state
from job_service.legacy.inspection import KEPT_SCHEMA, inspect
from job_service.legacy.report import Report
from job_service.legacy.session import Driver, ImportFailedError, connect, lock, one


async def drop_legacy(
    url: str, report: Report, dump_file: Path | None, say: Callable[[str], None]
) -> None:
    """Write the dump, then drop.

    Raises ImportFailedError when there is nothing to drop, or the dump cannot be written.
    """
    if dump_file is None:
        raise ImportFailedError("--drop-legacy needs --dump FILE, to write the former tables to")
    async with connect(url) as driver:
        await lock(driver)
        phase, facts = await state(driver)
        if phase != "cut over" or facts.get("mode") != "in place":
            raise ImportFailedError("there has been no cutover in place: nothing can be dropped")
        report.phase = phase
        async with driver.transaction():
            await _drop(driver, url, report, dump_file, say)
    report.verified = True


async def _drop(
    driver: Driver, url: str, report: Report, dump_file: Path, say: Callable[[str], None]
) -> None:
    found = await inspect(driver, KEPT_SCHEMA)
    if found is None:
        raise ImportFailedError("the former tables are not there any more")
    report.describe(found, [])
    report.plan = [
        f"dump the former tables to {dump_file}, and read the dump back",
        "drop the former tables",
    ]
    report.print_found(say)
    names = ", ".join(table.qualified for table in found.tables.values())
    # Nobody changes what is being dumped.
    await driver.execute(f"LOCK TABLE {names} IN SHARE MODE".encode())
    await source_views.create(driver, found)
    for name, table in found.tables.items():
        _, missing = await verification.count(driver, name)
        if missing:
            raise ImportFailedError(f"{missing} rows of {name} are not imported")
        report.counts[name] = {"before": table.rows, "after": table.rows}
    await dump.write(driver, url, found, dump_file)
    for reference in found.references:
        await driver.execute(
            f'ALTER TABLE {reference.table} DROP CONSTRAINT "{reference.constraint}"'.encode()
        )
    await driver.execute(b"DROP VIEW IF EXISTS pg_temp.old_job, pg_temp.old_request")
    await driver.execute(f"DROP TABLE {names}".encode())
    (left,) = await one(
        driver,
        f"SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('{KEPT_SCHEMA}')",
    )
    if not left:
        await driver.execute(f"DROP SCHEMA {KEPT_SCHEMA}".encode())
