"""In place: the moment in which the service's tables take the place of the former ones.

One transaction: the former tables are locked, what has changed is brought over and compared, they
move to the schema ``legacy``, and the service's tables move to where they were. The foreign keys of
the application's other tables lead to the new one from then on.
"""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from psycopg import errors as pg

from job_service.legacy import former, import_record, staging
from job_service.legacy.inspection import KEPT_SCHEMA, Found, Reference
from job_service.legacy.session import Driver, ImportFailedError, one, statements
from job_service.store.database import statement

#: Milliseconds that the application's statements wait behind ours before we step back.
_LOCK_WAIT: Final = 2000
_TRIES: Final = 30

_OUTGOING: Final = statement("""
SELECT CAST(conrelid AS bigint) AS oid, conname AS "constraint",
    pg_get_constraintdef(oid) AS definition, convalidated AS valid
FROM pg_constraint
WHERE contype = 'f' AND conrelid = ANY(CAST(:oids AS oid[]))
    AND confrelid <> ALL(CAST(:oids AS oid[])) AND conparentid = 0
ORDER BY conname
""")

_OURS: Final = statement("""
SELECT 'TABLE' AS kind, format('%I.%I', CAST(:schema AS text), relname) AS name FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(CAST(:schema AS text))) AND relkind IN ('r', 'p')
UNION ALL
SELECT 'FUNCTION', CAST(oid AS regprocedure)::text
FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(CAST(:schema AS text)))
""")

_OWN_TABLES: Final = statement("""
SELECT relname FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(CAST(:schema AS text))) AND relkind IN ('r', 'p')
ORDER BY relname
""")


async def cut_over(
    driver: Driver,
    found: Found,
    catch_up: Callable[[], Awaitable[None]],
    say: Callable[[str], None],
) -> None:
    """Swap the tables. ``catch_up`` brings over, under the lock, what has changed.

    Raises what ``catch_up`` raises, and ImportFailedError when the locks cannot be had.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            async with driver.transaction():
                await _lock(driver, found)
                await catch_up()
                await _swap(driver, found)
        except (pg.LockNotAvailable, pg.DeadlockDetected):
            say(f"the former tables are in use; trying again ({attempt} of {_TRIES})")
            await asyncio.sleep(random.uniform(0.2, 1.5))  # noqa: S311 - not a secret
        else:
            await driver.execute(b"RESET search_path")
            return
    raise ImportFailedError(
        f"the former tables could not be locked in {_TRIES} tries: end long transactions of the "
        "application and run this again; nothing is lost"
    )


async def finish(driver: Driver) -> None:
    """Check the foreign keys that were led to the new table, without keeping anybody waiting."""
    _, facts = await import_record.state(driver)
    for reference in facts.get("references", ()):
        if reference["valid"]:
            await driver.execute(
                f"ALTER TABLE {reference['table']} VALIDATE CONSTRAINT"
                f' "{reference["constraint"]}"'.encode()
            )


async def _lock(driver: Driver, found: Found) -> None:
    await driver.execute(f"SET LOCAL lock_timeout = {_LOCK_WAIT}".encode())
    names = ", ".join(sorted(table.qualified for table in found.tables.values()))
    # Readers go on until the tables move.
    await driver.execute(f"LOCK TABLE {names} IN EXCLUSIVE MODE".encode())


async def _swap(driver: Driver, found: Found) -> None:
    schema = found.schema
    oids = [table.oid for table in found.tables.values()]
    await staging.refuse_taken_names(driver, schema, oids)
    await driver.execute(b"TRUNCATE job_tombstones")
    jobs = found.tables.get(former.JOBS)
    incoming = [one_ for one_ in found.references if jobs is not None and one_.referred == jobs.oid]
    outgoing = await _outgoing(driver, found)
    facts: dict[str, Any] = {
        "mode": "in place",
        "schema": schema,
        "tables": list(found.tables),
        "kept_schema_made": not await _has_schema(driver, KEPT_SCHEMA),
        "references": [dataclasses.asdict(reference) for reference in incoming],
        "outgoing": outgoing,
        "own_tables": [
            row.relname
            for row in await statements(driver).rows(_OWN_TABLES, {"schema": staging.STAGING})
        ],
    }
    for reference in incoming:
        await driver.execute(
            f'ALTER TABLE {reference.table} DROP CONSTRAINT "{reference.constraint}"'.encode()
        )
    for own in outgoing:
        await driver.execute(
            f'ALTER TABLE {own["table"]} DROP CONSTRAINT "{own["constraint"]}"'.encode()
        )
    await driver.execute(f"CREATE SCHEMA IF NOT EXISTS {KEPT_SCHEMA}".encode())
    for table in found.tables.values():
        await driver.execute(f"ALTER TABLE {table.qualified} SET SCHEMA {KEPT_SCHEMA}".encode())
    await move(driver, staging.STAGING, schema)
    await driver.execute(f"DROP SCHEMA {staging.STAGING}".encode())
    await staging.enter(driver, schema)
    await raise_sequence(driver, found.max_id)
    for reference in incoming:
        await _follow_ids(driver, reference)
        await driver.execute(
            f'ALTER TABLE {reference.table} ADD CONSTRAINT "{reference.constraint}"'
            f" {unchecked(reference.definition)}".encode()
        )
    await import_record.cut_over(driver, facts)


async def move(driver: Driver, from_schema: str, to_schema: str) -> None:
    """Move all tables and functions of a schema; sequences and indexes go with their tables."""
    await driver.execute(b"SET LOCAL search_path = pg_catalog")
    for row in await statements(driver).rows(_OURS, {"schema": from_schema}):
        await driver.execute(f'ALTER {row.kind} {row.name} SET SCHEMA "{to_schema}"'.encode())


async def raise_sequence(driver: Driver, highest: int) -> None:
    """Have new jobs get ids above all there are, and above ``highest``."""
    await one(
        driver,
        "SELECT setval(pg_get_serial_sequence('generation_jobs', 'id'), greatest("
        f"{highest}, 1, (SELECT max(id) FROM generation_jobs), (SELECT last_value FROM"
        " generation_jobs_id_seq)))",
    )


def unchecked(definition: str) -> str:
    """The definition of a foreign key that is not checked when it is made."""
    return definition if definition.endswith("NOT VALID") else f"{definition} NOT VALID"


async def _outgoing(driver: Driver, found: Found) -> Sequence[dict[str, Any]]:
    by_oid = {table.oid: table for table in found.tables.values()}
    rows = await statements(driver).rows(_OUTGOING, {"oids": list(by_oid)})
    return [
        {
            "table": by_oid[row.oid].qualified,
            "constraint": row.constraint,
            "definition": row.definition,
            "valid": row.valid,
        }
        for row in rows
    ]


async def _follow_ids(driver: Driver, reference: Reference) -> None:
    """Have rows that refer to a job that could not keep its id refer to its new one."""
    await driver.execute(
        f'UPDATE {reference.table} AS referring SET "{reference.column}" = moved.job_id'
        f" FROM legacy_rows AS moved WHERE moved.source = '{former.JOBS}'"
        " AND moved.source_id <> moved.job_id"
        f' AND moved.source_id = referring."{reference.column}"'.encode()
    )


async def _has_schema(driver: Driver, name: str) -> bool:
    (found,) = await one(driver, f"SELECT to_regnamespace('{name}') IS NOT NULL")
    return bool(found)
