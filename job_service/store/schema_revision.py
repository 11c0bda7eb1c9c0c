"""Which revision the schema is at, as the running service sees it."""

from typing import Final

from psycopg import errors as pg

from job_service.store.database import Database, statement
from job_service.store.migrate import VERSION_TABLE

_REVISION: Final = statement(f"SELECT version_num FROM {VERSION_TABLE}")


async def schema_revision(database: Database) -> str | None:
    """The revision; None when there is no schema. Raises RefusedError: DATABASE_UNAVAILABLE."""
    try:
        row = await database.row(_REVISION)
    except pg.UndefinedTable:
        return None
    return None if row is None else str(row.version_num)
