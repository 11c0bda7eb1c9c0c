"""Drops the former tables for good, once a dump of them is written and read back."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final

from job_service.legacy import dump, import_record, source_views
from job_service.legacy.inspection import KEPT_SCHEMA, Found, inspect
from job_service.legacy.report import Report
from job_service.legacy.session import Driver, ImportFailedError, connect, lock, one

#: Ids that a refusal names.
_NAMED: Final = 10

# What is not as it was imported: what of it is told, which rows, and what to do.
_UNKNOWN: Final = (
    (
        "are not imported",
        "before.source_id IS NULL",
        "run import-legacy once more",
    ),
    (
        "have been written since they were imported",
        "before.checksum <> old.checksum",
        "bring what was written to the jobs and put the rows back, or --undo and import again",
    ),
)


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
        phase, facts = await import_record.state(driver)
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
    if found.readers:
        raise ImportFailedError(
            f"views read the former tables ({', '.join(found.readers)}): drop these first; "
            "nothing was dropped"
        )
    for name, table in found.tables.items():
        await _refuse_unknown_rows(driver, name)
        report.counts[name] = {"before": table.rows, "after": table.rows}
    await dump.write(driver, url, found, dump_file)
    await _drop_references(driver, found)
    await driver.execute(b"DROP VIEW IF EXISTS pg_temp.old_job, pg_temp.old_request")
    await driver.execute(f"DROP TABLE {names}".encode())
    (left,) = await one(
        driver,
        f"SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('{KEPT_SCHEMA}')",
    )
    if not left:
        await driver.execute(f"DROP SCHEMA {KEPT_SCHEMA}".encode())


async def _refuse_unknown_rows(driver: Driver, name: str) -> None:
    """Every former row is still what it was when it was imported."""
    for told, unknown, advice in _UNKNOWN:
        rows = (
            f"FROM {source_views.VIEWS[name]} AS old LEFT JOIN legacy_rows AS before"
            f" ON before.source = '{name}' AND before.source_id = old.id WHERE {unknown}"
        )
        (count,) = await one(driver, f"SELECT count(*) {rows}")
        if count:
            cursor = await driver.execute(
                f"SELECT old.id {rows} ORDER BY old.id LIMIT {_NAMED}".encode()
            )
            ids = [str(row[0]) for row in await cursor.fetchall()]
            raise ImportFailedError(
                f"{count} rows of {name} {told} (ids {', '.join(ids)}"
                f"{' …' if count > _NAMED else ''}): nothing was dropped; {advice}"
            )


async def _drop_references(driver: Driver, found: Found) -> None:
    """Foreign keys on what is dropped go with it; an undo makes them again."""
    for reference in found.references:
        await driver.execute(
            f'ALTER TABLE {reference.table} DROP CONSTRAINT "{reference.constraint}"'.encode()
        )
    dropped = [dataclasses.asdict(reference) for reference in found.references]
    await import_record.add_facts(driver, {"dropped": dropped})
