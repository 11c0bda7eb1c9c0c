"""Statements on the connection pool, and what is said when PostgreSQL cannot be reached."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.types.json import set_json_loads
from sqlalchemy import URL, text

from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.driver import Driver
from job_service.store.joined import Joined
from job_service.store.pool import ConnectionPool, PoolBusyError, PoolUse
from job_service.workflows import exact_json

#: A named tuple of the columns.
Row: TypeAlias = Any

Parameters: TypeAlias = Mapping[str, Any] | None

_DIALECT: Final = URL.create("postgresql+psycopg").get_dialect()()


@lru_cache(maxsize=256)  # some are put together for one call
def statement(sql: str) -> bytes:
    """SQL as the driver takes it; written with ``:name`` parameters."""
    return str(text(sql).compile(dialect=_DIALECT)).encode()


#: In the FROM of a statement: it is answered before it is on the disk, within about a second. For
#: changes that a crash of PostgreSQL may undo because what follows is then done again. Whatever is
#: committed later and is on the disk has all that was committed before it there, too.
COMMITTED_SOON: Final = "(SELECT set_config('synchronous_commit', 'off', true)) AS committed_soon"


def committed_soon_unless(condition: str) -> str:
    """As ``COMMITTED_SOON``, unless a condition holds that may use what the statement has found."""
    return f"""(
        SELECT set_config('synchronous_commit', CASE
            WHEN {condition} THEN current_setting('synchronous_commit') ELSE 'off'
        END, true)
    ) AS committed_soon"""


_FLUSH: Final = statement("SELECT pg_logical_emit_message(true, 'job_service', '')")


def as_json(value: object) -> str:
    """A value for a jsonb parameter. Plain text keeps one prepared statement for all row counts."""
    return _JSON.encode(value)


_SEPARATORS: Final = (",", ":")
_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=_SEPARATORS, default=str)


def as_exact_json(value: object) -> str:
    """A value that was read from jsonb, every number as it was there. Slower."""
    return exact_json.dumps(value, _SEPARATORS)


# Jobs that did not come through CreateJob have numbers that it would not have taken.
def _float(text: str) -> float:
    number = float(text)
    return number if repr(number) == text else exact_json.ExactNumber(text)


def _int(text: str) -> float:
    return int(text) if len(text) <= _MOST_DIGITS else exact_json.ExactNumber(text)


#: Python refuses to read integers of more than 4,300.
_MOST_DIGITS: Final = 1_000
_reader: Final = json.JSONDecoder(parse_float=_float, parse_int=_int)


def _read_json(text: str | bytes) -> Any:
    return _reader.decode(text if isinstance(text, str) else text.decode())


_ADAPTERS: Final = AdaptersMap(psycopg.adapters)
set_json_loads(_read_json, _ADAPTERS)


class Connection:
    """Runs statements one after the other."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def rows(self, query: bytes, parameters: Parameters = None) -> Sequence[Row]:
        """Run one statement and fetch all its rows."""
        return await self._driver.rows(query, parameters or {})

    async def row(self, query: bytes, parameters: Parameters = None) -> Row | None:
        """Run one statement that answers at most one row."""
        rows = await self.rows(query, parameters)
        assert len(rows) <= 1, "a statement that answers one row has answered several"
        return rows[0] if rows else None

    async def run(self, query: bytes, parameters: Parameters = None) -> int:
        """Run one statement and say how many rows it changed."""
        return await self._driver.run(query, parameters or {})


class Database:
    """Runs statements on a bounded pool; each is a transaction of its own.

    Every method raises RefusedError with DATABASE_UNAVAILABLE when PostgreSQL cannot be reached.
    A statement whose answer was lost may have taken effect.
    """

    def __init__(self, url: str, *, pool_size: int = 8, acquire_timeout: float = 5.0) -> None:
        self._pool = ConnectionPool(
            url,
            size=pool_size,
            acquire_timeout=acquire_timeout,
            autocommit=True,
            context=_ADAPTERS,
            prepare_threshold=3,
            application_name="job_service",
            connect_timeout=5,
            # jsonb parameters vary in length from one to thousands of rows: plans made for
            # one call's rows would be thrown away by the next.
            # The default price of random reads is that of a spinning disk: it makes plans read
            # the whole of a table of up to some ten thousand jobs.
            options="-c plan_cache_mode=force_generic_plan -c jit=off"
            " -c random_page_cost=1.1"
            " -c statement_timeout=30s -c timezone=UTC",
        )
        self._flush = Joined(self._flush_joined)

    async def close(self) -> None:
        """Close every connection, once the statements under way are done."""
        await self._pool.close()

    def connections(self) -> PoolUse:
        """How the pool is used now."""
        return self._pool.use()

    async def rows(self, query: bytes, parameters: Parameters = None) -> Sequence[Row]:
        """Run one statement and fetch all its rows."""
        async with self._connection() as driver:
            return await Connection(driver).rows(query, parameters)

    async def row(self, query: bytes, parameters: Parameters = None) -> Row | None:
        """Run one statement that answers at most one row."""
        async with self._connection() as driver:
            return await Connection(driver).row(query, parameters)

    async def run(self, query: bytes, parameters: Parameters = None) -> int:
        """Run one statement and say how many rows it changed."""
        async with self._connection() as driver:
            return await Connection(driver).run(query, parameters)

    async def flush(self) -> None:
        """Return when everything is on the disk that has been committed so far.

        Whoever asks for it at the same time shares the commit that brings it there.
        """
        await self._flush(None)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Several statements that take effect together, each seeing what was committed before it.

        Raises as the other methods do.
        """
        async with self._connection() as driver, driver.transaction():
            yield Connection(driver)

    async def _flush_joined(self, calls: Sequence[None]) -> Sequence[None]:
        await self.rows(_FLUSH)
        return calls

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Driver]:
        try:
            async with self._pool.connection() as driver:
                yield driver
        except PoolBusyError as error:
            raise _unavailable("all database connections are busy") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            # Also a deadlock or a timeout: calling again later is all there is to do.
            raise _unavailable("the database cannot be reached") from error
        except psycopg.Error as error:
            _forget_values(error)
            raise


def _forget_values(error: psycopg.Error) -> None:
    """Keep what a row holds, prompts above all, out of the log.

    PostgreSQL quotes the whole row that violates a constraint, and values that it cannot read.
    """
    diagnosis = error.diag
    where = (diagnosis.table_name, diagnosis.column_name, diagnosis.constraint_name)
    about = " of ".join(filter(None, reversed(where)))
    quotes = isinstance(error, psycopg.DataError | psycopg.IntegrityError)
    said = type(error).__name__ if quotes else str(diagnosis.message_primary or error)
    error.args = (f"{said} ({error.sqlstate})" + (f" at {about}" if about else ""),)


def _unavailable(why: str) -> RefusedError:
    return RefusedError(Refusal.DATABASE_UNAVAILABLE, f"{why}; try again")
