"""In place: the service's own tables are made beside the former ones, in a schema of their own."""

import asyncio
from typing import Final

from job_service.legacy import bulk_load
from job_service.legacy.session import Driver, ImportFailedError, one
from job_service.store import migrate

STAGING: Final = "generation_jobs_import"

#: The service's tables besides the jobs' own, as far as the migrations make them.
OWN_TABLES: Final = (
    "access_tokens",
    "backend_catalogues",
    "dispatch_clocks",
    "dispatch_pauses",
    "generation_jobs_alembic_version",
    "installation",
    "job_artifacts",
    "job_attempts",
    "job_inputs",
    "job_previews",
    "job_tombstone_horizon",
    "job_tombstones",
    "legacy_import",
    "legacy_models",
    "legacy_rows",
    "models",
    "node_signatures",
    "route_keys",
    "user_clocks",
    "user_shares",
    "workers",
    "workflow_templates",
)

# Names that are taken where the tables shall go, other than by what makes room for them.
_TAKEN: Final = """
WITH own AS (
    SELECT relname AS name, relkind FROM pg_class
    WHERE relnamespace = to_regnamespace('{staging}') AND relkind NOT IN ('t', 'c')
), leaving AS (
    SELECT CAST(unnest(CAST(%s AS bigint[])) AS oid) AS oid
)
SELECT other.relname FROM own JOIN pg_class AS other ON other.relname = own.name
WHERE other.relnamespace = to_regnamespace(%s)
    AND other.oid NOT IN (SELECT oid FROM leaving)
    AND NOT EXISTS (
        SELECT FROM pg_index WHERE indexrelid = other.oid AND indrelid IN (SELECT oid FROM leaving)
    )
    AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = CAST('pg_class' AS regclass) AND objid = other.oid
            AND refobjid IN (SELECT oid FROM leaving) AND deptype IN ('a', 'i')
    )
UNION
SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace(%s) AND proname IN (
    SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace('{staging}')
)
ORDER BY 1
"""


async def exists(driver: Driver) -> bool:
    """Whether an import in place has begun and is not over."""
    cursor = await driver.execute("SELECT to_regnamespace(%s) IS NOT NULL", [STAGING])
    row = await cursor.fetchone()
    return bool(row and row[0])


async def make(driver: Driver, url: str) -> None:
    """Make the schema with all tables, or bring one that is there up to date, and enter it."""
    await driver.execute(f"CREATE SCHEMA IF NOT EXISTS {STAGING}".encode())
    await enter(driver, STAGING)
    if await _is_behind(driver):
        await bulk_load.complete(driver)  # migrations find what those before them have made
    await asyncio.to_thread(migrate.upgrade_under_lock, url, STAGING)


async def _is_behind(driver: Driver) -> bool:
    """Whether another version of the service has made the tables."""
    table = f"{STAGING}.{migrate.VERSION_TABLE}"
    (there,) = await one(driver, f"SELECT to_regclass('{table}') IS NOT NULL")
    if not there:
        return False
    cursor = await driver.execute(f"SELECT version_num FROM {table}".encode())
    return await cursor.fetchall() != [(migrate.expected(),)]


async def enter(driver: Driver, schema: str) -> None:
    """Have unqualified names lead to a schema."""
    await driver.execute(f'SET search_path = "{schema}"'.encode())


async def drop(driver: Driver) -> None:
    """Remove the schema and all that is in it."""
    await driver.execute(b"RESET search_path")
    await driver.execute(f"DROP SCHEMA IF EXISTS {STAGING} CASCADE".encode())


async def refuse_taken_tables(driver: Driver, schema: str) -> None:
    """Raise ImportFailedError when tables of the application are named like the service's."""
    cursor = await driver.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s))"
        " AND relname = ANY(%s) ORDER BY 1",
        [schema, list(OWN_TABLES)],
    )
    _refuse(schema, [row[0] for row in await cursor.fetchall()])


async def refuse_taken_names(driver: Driver, schema: str, leaving: list[int]) -> None:
    """Raise ImportFailedError when tables of the application have names of the service's.

    ``leaving``: oids of the tables that make room.
    """
    cursor = await driver.execute(
        _TAKEN.format(staging=STAGING).encode(), [leaving, schema, schema]
    )
    _refuse(schema, [row[0] for row in await cursor.fetchall()])


def _refuse(schema: str, taken: list[str]) -> None:
    if taken:
        raise ImportFailedError(
            f"schema {schema} has other tables, indexes or functions with names that job_service "
            f"needs: {', '.join(taken)}. Rename them, or import into a database of its own with "
            "--from"
        )
