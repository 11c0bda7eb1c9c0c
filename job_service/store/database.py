"""The connection pool, and what is said when PostgreSQL cannot be reached."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import errors as pg
from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.sql import Executable

from job_service.jobs.refusals import Refusal, RefusedError

#: Server-side states in which calling again later is all there is to do.
_PASSING = (
    pg.OperationalError,
    pg.InterfaceError,
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.TooManyConnections,
    pg.DeadlockDetected,
    pg.SerializationFailure,
)


def statement(sql: str) -> TextClause:
    """SQL as written, with ``:name`` parameters."""
    return text(sql)


def as_json(value: object) -> str:
    """A value for a jsonb parameter. Plain text keeps one prepared statement for all row counts."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


class Database:
    """Runs statements on a bounded pool; each is a transaction of its own.

    Every method raises RefusedError with DATABASE_UNAVAILABLE when PostgreSQL cannot be reached.
    A statement whose answer was lost may have taken effect.
    """

    def __init__(self, url: str, *, pool_size: int = 8, acquire_timeout: float = 5.0) -> None:
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=acquire_timeout,
            pool_use_lifo=True,
            isolation_level="AUTOCOMMIT",
            connect_args={
                "application_name": "job_service",
                "connect_timeout": 5,
                "prepare_threshold": 3,
                # jsonb parameters vary in length from one to thousands of rows: plans made for
                # one call's rows would be thrown away by the next.
                # The default price of random reads is that of a spinning disk: it makes plans read
                # the whole of a table of up to some ten thousand jobs.
                "options": "-c plan_cache_mode=force_generic_plan -c jit=off"
                " -c random_page_cost=1.1"
                " -c statement_timeout=30s -c timezone=UTC",
            },
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def rows(
        self, query: Executable, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        """Run one statement and fetch all its rows."""
        async with self._connection() as connection:
            return (await connection.execute(query, parameters)).all()

    async def row(
        self, query: Executable, parameters: Mapping[str, Any] | None = None
    ) -> Row[Any] | None:
        """Run one statement that answers at most one row."""
        async with self._connection() as connection:
            return (await connection.execute(query, parameters)).one_or_none()

    async def run(self, query: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        """Run one statement and say how many rows it changed."""
        async with self._connection() as connection:
            return (await connection.execute(query, parameters)).rowcount

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Several statements that take effect together, each seeing what was committed before it.

        Raises as the other methods do.
        """
        async with self._connection() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                yield connection
        except PoolTimeoutError as error:
            raise _unavailable("all database connections are busy") from error
        except (OperationalError, InterfaceError) as error:
            raise _unavailable("the database cannot be reached") from error
        except DBAPIError as error:
            if error.connection_invalidated or isinstance(error.orig, _PASSING):
                raise _unavailable("the database cannot be reached") from error
            raise


def _unavailable(why: str) -> RefusedError:
    return RefusedError(Refusal.DATABASE_UNAVAILABLE, f"{why}; try again")
