"""Back to how it was before an import.

In place, the former tables move back to where they were, with their foreign keys; the service's
tables are kept in a schema of their own. What was created or changed here meanwhile is written into
the former tables as far as they can hold it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from psycopg import errors as pg

from job_service.legacy import (
    bulk_load,
    cutover,
    dump,
    former,
    import_record,
    removal,
    staging,
    writing_back,
)
from job_service.legacy.inspection import (
    KEPT_SCHEMA,
    inspect,
    is_migrated,
    references_to,
)
from job_service.legacy.report import Report
from job_service.legacy.session import Driver, ImportFailedError, connect, lock, one, statements
from job_service.store.database import statement

UNDONE: Final = "generation_jobs_undone"


async def undo(
    url: str, report: Report, dump_file: Path | None, say: Callable[[str], None]
) -> None:
    """Undo the import of a database, wherever it has got to.

    ``report.mode``: only such an import is undone, unless it is ``in place``: then whatever there
    was. Raises ImportFailedError when there is none, or when it cannot be undone as things are.
    """
    async with connect(url) as driver:
        await lock(driver)
        if await is_migrated(driver):
            await _undo_migrated(driver, url, report, dump_file, say)
        elif await staging.exists(driver):
            _refuse_other_mode(report, "in place")
            report.plan = ["remove what was prepared; the former tables are as they were"]
            report.print_found(say)
            await staging.drop(driver)
        elif not await _go_on(driver, report, say):
            raise ImportFailedError("there is no import here that could be undone")
    report.phase = "undone"
    report.verified = True


async def _undo_migrated(
    driver: Driver,
    url: str,
    report: Report,
    dump_file: Path | None,
    say: Callable[[str], None],
) -> None:
    phase, facts = await import_record.state(driver)
    if phase is None:
        raise ImportFailedError("there is no import here that could be undone")
    mode = facts.get("mode", "in place")
    _refuse_other_mode(report, mode)
    report.mode = mode
    if mode == "from":
        report.plan = ["remove the jobs that were imported, and that nobody has changed since"]
        report.print_found(say)
        for source, source_id, job_id in await removal.remove_imported(driver):
            report.rows.add("conflict", source, source_id, job_id)
        await bulk_load.complete(driver)
        return
    await _refuse_running(driver)
    dropped = await inspect(driver, KEPT_SCHEMA) is None
    if dropped and dump_file is None:
        raise ImportFailedError(
            "the former tables were dropped: name the dump that was written then, with --dump"
        )
    undone = await _free_name(driver)
    report.plan = [
        *([f"make the former tables again from {dump_file}"] if dropped else []),
        "write jobs created or changed here into the former tables, as far as these can hold them",
        f"move the former tables to schema {facts['schema']}, with their foreign keys",
        f"keep job_service's tables in schema {undone}",
    ]
    report.print_found(say)
    if dropped and dump_file is not None:
        await dump.restore(driver, url, dump_file)
    async with driver.transaction():
        await _swap_back(driver, facts, undone, report)
    await driver.execute(b"RESET search_path")
    await _validate(driver, undone, report)


async def _go_on(driver: Driver, report: Report, say: Callable[[str], None]) -> bool:
    """Do what an undo that was interrupted has left to do; whether there is anything."""
    rows = await statements(driver).rows(
        statement("SELECT nspname AS name FROM pg_namespace WHERE nspname ~ :pattern ORDER BY 1"),
        {"pattern": f"^{UNDONE}(_[0-9]+)?$"},
    )
    left = [row.name for row in rows if await _unchecked(driver, row.name)]
    if left:
        report.plan = ["check the foreign keys that an undo which was interrupted has put back"]
        report.print_found(say)
    for undone in left:
        await _validate(driver, undone, report)
    return bool(left)


def _refuse_other_mode(report: Report, mode: str) -> None:
    if report.mode == "from" and mode != "from":
        raise ImportFailedError("this import was done in place: use --undo without --from")


async def _refuse_running(driver: Driver) -> None:
    (running,) = await one(driver, "SELECT count(*) FROM generation_jobs WHERE status = 'running'")
    if running:
        raise ImportFailedError(
            f"{running} jobs are running: drain the workers and stop job_service first"
        )


async def _swap_back(driver: Driver, facts: Mapping[str, Any], undone: str, report: Report) -> None:
    """Put the former tables where they were; their foreign keys are to be checked then."""
    schema = facts["schema"]
    await driver.execute(b"SET LOCAL lock_timeout = '10s'")
    await driver.execute(b"LOCK TABLE generation_jobs IN ACCESS EXCLUSIVE MODE")
    references = [*facts["references"], *await _late_references(driver, facts)]
    found = await inspect(driver, KEPT_SCHEMA)
    assert found is not None, "the former tables are there, or were restored"
    for reference in references:
        await driver.execute(
            f"ALTER TABLE {reference['table']} DROP CONSTRAINT IF EXISTS"
            f' "{reference["constraint"]}"'.encode()
        )
    await writing_back.write_back(driver, found.tables, report)
    await _tell_of_files(driver, undone, report)
    await _ids_back(driver, references)
    for reference in facts.get("dropped", ()):
        await _add_missing(driver, reference)
    put_back = [*facts["outgoing"], *references, *facts.get("dropped", ())]
    await import_record.add_facts(
        driver, {"unchecked": [reference for reference in put_back if reference["valid"]]}
    )
    await driver.execute(f"CREATE SCHEMA {undone}".encode())
    for name in await _own_objects(driver, schema, facts):
        await driver.execute(f'ALTER {name} SET SCHEMA "{undone}"'.encode())
    for table in found.tables.values():
        await driver.execute(f'ALTER TABLE {table.qualified} SET SCHEMA "{schema}"'.encode())
    for reference in (*facts["outgoing"], *references):
        await _add_missing(driver, reference)
    if facts.get("kept_schema_made"):
        try:
            async with driver.transaction():
                await driver.execute(f"DROP SCHEMA {KEPT_SCHEMA}".encode())
        except pg.DependentObjectsStillExist:
            report.problems.append(f"schema {KEPT_SCHEMA} holds something else, and was kept")


async def _tell_of_files(driver: Driver, undone: str, report: Report) -> None:
    """What was made here has no path that the former application could follow."""
    jobs, files = await one(
        driver,
        "SELECT count(DISTINCT job_id), count(*) FROM job_artifacts"
        " WHERE job_id IS NOT NULL AND attempt > 0 AND role <> 'thumbnail'"
        " AND stored_at IS NOT NULL",
    )
    if files:
        report.problems.append(
            f"{files} files of {jobs} jobs were made here, and the former tables do not name them: "
            f"they are in the artifact store still, under the object_key that "
            f"{undone}.job_artifacts has of each"
        )


async def _late_references(driver: Driver, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Foreign keys on our jobs that were made since the cutover, by nobody of ours."""
    (jobs,) = await one(driver, "SELECT CAST(to_regclass('generation_jobs') AS bigint)")
    known = {(one_["table"], one_["constraint"]) for one_ in facts["references"]}
    rows = await statements(driver).rows(
        statement("""
        SELECT CAST(oid AS bigint) AS oid FROM pg_class
        WHERE relnamespace = to_regnamespace(quote_ident(CAST(:schema AS text)))
            AND relname = ANY(:names)
        """),
        {"schema": facts["schema"], "names": _own_tables(facts)},
    )
    return [
        dataclasses.asdict(reference)
        for reference in await references_to(driver, [row.oid for row in rows])
        if reference.referred == jobs and (reference.table, reference.constraint) not in known
    ]


async def _add_missing(driver: Driver, reference: Mapping[str, Any]) -> None:
    table, name = reference["table"], reference["constraint"]
    (there,) = await one(
        driver,
        f"SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass('{table}')"
        f" AND conname = '{name}')",
    )
    if not there:
        definition = cutover.unchecked(reference["definition"])
        await driver.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}'.encode())


async def _unchecked(driver: Driver, undone: str) -> Sequence[Mapping[str, Any]]:
    """The foreign keys that an undo put back and that are not checked yet."""
    (there,) = await one(driver, f"SELECT to_regclass('{undone}.legacy_import') IS NOT NULL")
    if not there:
        return ()
    rows = await statements(driver).rows(
        statement(f"SELECT facts -> 'unchecked' AS unchecked FROM {undone}.legacy_import")
    )
    return [reference for row in rows for reference in row.unchecked or ()]


async def _validate(driver: Driver, undone: str, report: Report) -> None:
    """Check them, without keeping anybody waiting."""
    for reference in await _unchecked(driver, undone):
        table, name = reference["table"], reference["constraint"]
        try:
            await driver.execute(f'ALTER TABLE {table} VALIDATE CONSTRAINT "{name}"'.encode())
        except pg.ForeignKeyViolation as error:
            report.problems.append(
                f"the foreign key {name} of {table} holds for new rows only: "
                f"{error.diag.message_detail}"
            )
    await driver.execute(f"UPDATE {undone}.legacy_import SET facts = facts - 'unchecked'".encode())


async def _own_objects(driver: Driver, schema: str, facts: Mapping[str, Any]) -> list[str]:
    """The service's tables and functions, where they are beside the application's."""
    rows = await statements(driver).rows(
        statement("""
        WITH own AS (SELECT unnest(CAST(:tables AS text[])) AS name)
        SELECT format('TABLE %I.%I', CAST(:schema AS text), relname) AS name FROM pg_class
        JOIN own ON own.name = relname
        WHERE relnamespace = to_regnamespace(quote_ident(CAST(:schema AS text))) AND relkind = 'r'
        UNION ALL
        SELECT DISTINCT 'FUNCTION ' || CAST(CAST(trigger.tgfoid AS regprocedure) AS text)
        FROM pg_trigger AS trigger
        WHERE trigger.tgrelid = CAST('generation_jobs' AS regclass) AND NOT trigger.tgisinternal
        """),
        {"schema": schema, "tables": _own_tables(facts)},
    )
    return [row.name for row in rows]


def _own_tables(facts: Mapping[str, Any]) -> list[str]:
    """Names of the service's tables: those of the cutover, and what migrations made since."""
    return sorted({*facts["own_tables"], *staging.OWN_TABLES})


async def _free_name(driver: Driver) -> str:
    n = 1
    while True:
        name = UNDONE if n == 1 else f"{UNDONE}_{n}"
        (taken,) = await one(driver, f"SELECT to_regnamespace('{name}') IS NOT NULL")
        if not taken:
            return name
        n += 1


async def _ids_back(driver: Driver, references: Sequence[Mapping[str, Any]]) -> None:
    """Have rows refer to the former ids of jobs that could not keep them."""
    for reference in references:
        column = reference.get("column")
        if column:
            await driver.execute(
                f'UPDATE {reference["table"]} AS referring SET "{column}" = moved.source_id'
                f" FROM legacy_rows AS moved WHERE moved.source = '{former.JOBS}'"
                " AND moved.source_id <> moved.job_id"
                f' AND moved.job_id = referring."{column}"'.encode()
            )
