"""Back to how it was before an import.

In place, the former tables move back to where they were, with their foreign keys; the service's
tables are kept in a schema of their own. What was created or changed here meanwhile is written into
the former tables as far as they can hold it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from psycopg import errors as pg

from job_service.legacy import cutover, dump, former, staging
from job_service.legacy.inspection import (
    KEPT_SCHEMA,
    Table,
    inspect,
    is_migrated,
    references_to,
)
from job_service.legacy.report import Report
from job_service.legacy.session import Driver, ImportFailedError, connect, lock, one, statements
from job_service.store.database import Row, statement

UNDONE: Final = "generation_jobs_undone"

_REMOVE: Final = """
WITH chosen AS MATERIALIZED (
    SELECT before.source, before.source_id, before.job_id,
        job.id IS NOT NULL AND job.revision <> 1 AS touched
    FROM legacy_rows AS before LEFT JOIN generation_jobs AS job ON job.id = before.job_id
    WHERE NOT before.conflict ORDER BY before.source, before.source_id LIMIT 5000
), jobs AS (
    DELETE FROM generation_jobs USING chosen
    WHERE generation_jobs.id = chosen.job_id AND NOT chosen.touched
), rows AS (
    DELETE FROM legacy_rows AS before USING chosen
    WHERE before.source = chosen.source AND before.source_id = chosen.source_id
)
SELECT source, source_id, job_id FROM chosen WHERE touched
UNION ALL
SELECT NULL, NULL, NULL FROM chosen
"""

_NEW_JOBS: Final = """
SELECT id FROM generation_jobs AS job
WHERE NOT EXISTS (SELECT FROM legacy_rows AS before WHERE before.job_id = job.id)
ORDER BY id
"""

_CHANGED_JOBS: Final = """
SELECT job.id, before.source, before.source_id FROM legacy_rows AS before
JOIN generation_jobs AS job ON job.id = before.job_id
WHERE before.outcome = 'imported' AND job.revision <> 1 ORDER BY job.id
"""

_DELETED_JOBS: Final = """
SELECT before.source, before.source_id, before.job_id FROM legacy_rows AS before
WHERE before.outcome = 'imported'
    AND NOT EXISTS (SELECT FROM generation_jobs AS job WHERE job.id = before.job_id)
ORDER BY 1, 2
"""

# Former column → what a job has for it. Only columns that the former table has are written.
_WRITTEN: Final[Mapping[str, str]] = {
    "user_id": "job.user_id",
    "job_type": "job.job_type",
    "prompt": "job.prompt",
    "negative_prompt": "job.negative_prompt",
    "checkpoint_model": "job.checkpoint_model",
    "lora_models": "job.lora_models",
    "width": "job.width",
    "height": "job.height",
    "batch_size": "job.batch_size",
    "parameters": "job.params - 'legacy'",
    "params": "job.params - 'legacy'",
    "status": "job.status",
    "result_content_id": "job.content_id",
    "content_id": "job.content_id",
    "celery_task_id": "job.celery_task_id",
    "comfyui_prompt_id": "job.comfyui_prompt_id",
    "created_at": "job.created_at AT TIME ZONE 'UTC'",
    "updated_at": "job.updated_at AT TIME ZONE 'UTC'",
    "started_at": "job.started_at AT TIME ZONE 'UTC'",
    "completed_at": "job.completed_at AT TIME ZONE 'UTC'",
    "error_message": "job.error_message",
}
#: What may have changed of a job that was imported.
_MUTABLE: Final = (
    "status",
    "result_content_id",
    "content_id",
    "comfyui_prompt_id",
    "updated_at",
    "started_at",
    "completed_at",
    "error_message",
)


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
            await _undo_migrated(driver, url, report, dump_file)
        elif await staging.exists(driver):
            _refuse_other_mode(report, "in place")
            report.plan = ["remove what was prepared; the former tables are as they were"]
            report.print_found(say)
            await staging.drop(driver)
        else:
            raise ImportFailedError("there is no import here that could be undone")
    report.phase = "undone"
    report.verified = True


async def remove_imported(driver: Driver) -> list[tuple[str, int, int]]:
    """Remove every imported job that nobody has changed since; former rows whose jobs stay."""
    stayed: list[tuple[str, int, int]] = []
    while True:
        rows = await (await driver.execute(_REMOVE.encode())).fetchall()
        if not rows:
            break
        stayed += [(row[0], row[1], row[2]) for row in rows if row[0] is not None]
    await driver.execute(
        b"DELETE FROM models USING legacy_models AS before WHERE before.model_id = models.id"
        b" AND models.created_at = models.updated_at"
    )
    await driver.execute(b"DELETE FROM legacy_models; DELETE FROM legacy_import")
    return stayed


async def _undo_migrated(driver: Driver, url: str, report: Report, dump_file: Path | None) -> None:
    row = await statements(driver).row(statement("SELECT phase, facts FROM legacy_import"))
    if row is None:
        raise ImportFailedError("there is no import here that could be undone")
    mode = row.facts.get("mode", "in place")
    _refuse_other_mode(report, mode)
    report.mode = mode
    if mode == "from":
        for source, source_id, job_id in await remove_imported(driver):
            report.rows.add("conflict", source, source_id, job_id)
        return
    await _refuse_running(driver)
    if await inspect(driver, KEPT_SCHEMA) is None:
        if dump_file is None:
            raise ImportFailedError(
                "the former tables were dropped: name the dump that was written then, with --dump"
            )
        await dump.restore(driver, url, dump_file)
    async with driver.transaction():
        references = await _swap_back(driver, row.facts, report)
    await driver.execute(b"RESET search_path")
    await _validate(driver, references, report)


def _refuse_other_mode(report: Report, mode: str) -> None:
    if report.mode == "from" and mode != "from":
        raise ImportFailedError("this import was done in place: use --undo without --from")


async def _refuse_running(driver: Driver) -> None:
    (running,) = await one(driver, "SELECT count(*) FROM generation_jobs WHERE status = 'running'")
    if running:
        raise ImportFailedError(
            f"{running} jobs are running: drain the workers and stop job_service first"
        )


async def _swap_back(
    driver: Driver, facts: Mapping[str, Any], report: Report
) -> list[Mapping[str, Any]]:
    """Put the former tables where they were; the foreign keys that are to be checked then."""
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
    await _write_back(driver, found.tables, report)
    await _ids_back(driver, references)
    for reference in facts.get("dropped", ()):
        await _add_missing(driver, reference)
    undone = await _free_name(driver)
    await driver.execute(f"CREATE SCHEMA {undone}".encode())
    for name in await _own_objects(driver, schema, facts):
        await driver.execute(f'ALTER {name} SET SCHEMA "{undone}"'.encode())
    for table in found.tables.values():
        await driver.execute(f'ALTER TABLE {table.qualified} SET SCHEMA "{schema}"'.encode())
    for reference in (*_outgoing(facts), *references):
        await _add_missing(driver, reference)
    if facts.get("kept_schema_made"):
        try:
            async with driver.transaction():
                await driver.execute(f"DROP SCHEMA {KEPT_SCHEMA}".encode())
        except pg.DependentObjectsStillExist:
            report.problems.append(f"schema {KEPT_SCHEMA} holds something else, and was kept")
    report.plan.append(f"job_service's tables are kept in schema {undone}")
    return [*_outgoing(facts), *references, *facts.get("dropped", ())]


def _outgoing(facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Foreign keys that the former tables had."""
    for one_ in facts["outgoing"]:
        yield {**one_, "constraint": one_["name"]}


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


async def _validate(
    driver: Driver, references: Sequence[Mapping[str, Any]], report: Report
) -> None:
    for reference in references:
        if not reference["valid"]:
            continue
        table, name = reference["table"], reference["constraint"]
        try:
            await driver.execute(f'ALTER TABLE {table} VALIDATE CONSTRAINT "{name}"'.encode())
        except pg.ForeignKeyViolation as error:
            report.problems.append(
                f"the foreign key {name} of {table} holds for new rows only: "
                f"{error.diag.message_detail}"
            )


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


async def _write_back(driver: Driver, tables: Mapping[str, Table], report: Report) -> None:
    """Write new and changed jobs into the former tables; what these cannot hold is listed."""
    jobs = tables.get(former.JOBS)
    sql = statements(driver)
    for row in await sql.rows(statement(_NEW_JOBS)):
        if jobs is None or not await _fits(driver, _insert(jobs, row.id)):
            report.rows.add("rejected", former.JOBS, row.id, row.id)
    if jobs is not None:
        await _raise_ids(driver, jobs)
    for row in await sql.rows(statement(_CHANGED_JOBS)):
        if not await _fits(driver, _update(tables[row.source], row)):
            report.rows.add("rejected", row.source, row.source_id, row.id)
    for row in await sql.rows(statement(_DELETED_JOBS)):
        report.rows.add("removed", row.source, row.source_id, row.job_id)


async def _raise_ids(driver: Driver, table: Table) -> None:
    """Have the application's next id be above those of jobs that were created here."""
    (highest,) = await one(driver, f"SELECT max(id) FROM {table.qualified}")
    if table.next_id is not None and highest != table.max_id and highest >= table.next_id:
        await driver.execute(
            "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table.qualified, highest]
        )


async def _fits(driver: Driver, sql: str) -> bool:
    try:
        async with driver.transaction():
            await driver.execute(sql.encode())
    except (pg.DataError, pg.IntegrityError):
        return False
    return True


def _insert(table: Table, job_id: int) -> str:
    columns = [name for name in table.columns if name in _WRITTEN]
    values = [_as(table, name) for name in columns]
    overriding = "OVERRIDING SYSTEM VALUE " if table.ids == "identity" else ""
    return (
        f"INSERT INTO {table.qualified} (id, {', '.join(columns)}) {overriding}"
        f"SELECT job.id, {', '.join(values)} FROM generation_jobs AS job WHERE job.id = {job_id}"
    )


def _update(table: Table, row: Row) -> str:
    changes = ", ".join(
        f"{name} = {_as(table, name)}" for name in _MUTABLE if name in table.columns
    )
    return (
        f"UPDATE {table.qualified} AS old SET {changes} FROM generation_jobs AS job"
        f" WHERE old.id = {row.source_id} AND job.id = {row.id}"
    )


def _as(table: Table, name: str) -> str:
    return (
        f"CAST({_WRITTEN[name]} AS {table.columns[name].partition('(')[0].strip()})"
        if (table.columns[name] in ("json", "text", "integer", "smallint"))
        else _WRITTEN[name]
    )
