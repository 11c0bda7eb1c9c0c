"""What an index or a foreign key costs for each row is paid once, when the table is full.

Tables that nobody uses yet are filled without the indexes and foreign keys that only their users
need; a table beside them remembers how these are made.
"""

from collections.abc import Sequence
from typing import Final

from job_service.legacy.session import Driver, one

_FILLED: Final = ("generation_jobs", "job_artifacts")
_DEFERRED: Final = "import_deferred"

# What refuses wrong rows, and what finds them by their keys, stays.
_INDEXES: Final = """
SELECT format('DROP INDEX %%s', CAST(indexrelid AS regclass)), pg_get_indexdef(indexrelid)
FROM pg_index WHERE indrelid = ANY(CAST(%(tables)s AS regclass[])) AND NOT indisunique
"""
_FOREIGN_KEYS: Final = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', CAST(conrelid AS regclass), conname),
    format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', CAST(conrelid AS regclass), conname,
        pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid = ANY(CAST(%(tables)s AS regclass[])) AND contype = 'f'
"""
_MEMORY: Final = b"SET LOCAL maintenance_work_mem = '256MB'"


_SERVED: Final = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name IN ('job_service', 'job_service listener')
)
"""


async def defer(driver: Driver) -> None:
    """Drop them, when there are no jobs yet."""
    await _drop(driver, (_INDEXES, _FOREIGN_KEYS))


async def defer_indexes(driver: Driver) -> None:
    """Drop the indexes where the service's tables already are, unless it is serving.

    A service that is started meanwhile does everything it does, and its lists take longer.
    """
    (served,) = await one(driver, _SERVED)
    if not served:
        await _drop(driver, (_INDEXES,))


async def _drop(driver: Driver, queries: Sequence[str]) -> None:
    (empty,) = await one(driver, "SELECT NOT EXISTS (SELECT FROM generation_jobs)")
    if not empty or await is_deferred(driver):
        return
    async with driver.transaction():
        await driver.execute(
            f"CREATE TABLE {_DEFERRED} (n integer GENERATED ALWAYS AS IDENTITY,"
            " definition text NOT NULL)".encode()
        )
        for query in queries:
            cursor = await driver.execute(query.encode(), {"tables": list(_FILLED)})
            for drop, definition in await cursor.fetchall():
                await driver.execute(
                    f"INSERT INTO {_DEFERRED} (definition) VALUES (%s)".encode(), [definition]
                )
                await driver.execute(drop.encode())


async def complete(driver: Driver) -> None:
    """Make those that are missing; all of them, or none when it is interrupted."""
    if not await is_deferred(driver):
        return
    async with driver.transaction():
        await driver.execute(_MEMORY)
        cursor = await driver.execute(f"SELECT definition FROM {_DEFERRED} ORDER BY n".encode())
        for (definition,) in await cursor.fetchall():
            await driver.execute(definition.encode())
        await driver.execute(f"DROP TABLE {_DEFERRED}".encode())


async def is_deferred(driver: Driver) -> bool:
    """Whether some are missing."""
    (there,) = await one(driver, f"SELECT to_regclass('{_DEFERRED}') IS NOT NULL")
    return bool(there)
