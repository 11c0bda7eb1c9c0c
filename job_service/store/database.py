"""The connection pool, and what is said when PostgreSQL cannot be reached."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from job_service.jobs.refusals import Refusal, RefusedError
from job_service.workflows import exact_json

#: A named tuple of the columns.
Row: TypeAlias = Any

Parameters: TypeAlias = Mapping[str, Any] | None

_DIALECT: Final = URL.create("postgresql+psycopg").get_dialect()()


@lru_cache(maxsize=256)  # some are put together for one call
def statement(sql: str) -> bytes:
    """SQL as the driver takes it; written with ``:name`` parameters."""
    return str(text(sql).compile(dialect=_DIALECT)).encode()


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


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections that are in use, that are open and idle, and that may be open at most."""

    in_use: int
    idle: int
    limit: int


class Connection:
    """Runs statements one after the other."""

    def __init__(self, driver: psycopg.AsyncConnection[Any]) -> None:
        self._driver = driver

    async def rows(self, query: bytes, parameters: Parameters = None) -> Sequence[Row]:
        """Run one statement and fetch all its rows."""
        return await (await self._executed(query, parameters)).fetchall()

    async def row(self, query: bytes, parameters: Parameters = None) -> Row | None:
        """Run one statement that answers at most one row."""
        rows = await self.rows(query, parameters)
        assert len(rows) <= 1, "a statement that answers one row has answered several"
        return rows[0] if rows else None

    async def run(self, query: bytes, parameters: Parameters = None) -> int:
        """Run one statement and say how many rows it changed."""
        return (await self._executed(query, parameters)).rowcount

    async def _executed(self, query: bytes, parameters: Parameters) -> psycopg.AsyncCursor[Row]:
        return await self._driver.cursor(row_factory=namedtuple_row).execute(
            query, parameters or {}
        )


class Database:
    """Runs statements on a bounded pool; each is a transaction of its own.

    The engine keeps the pool, the statements go to the driver directly: by way of the engine each
    takes three times the processor time.

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
            pool_reset_on_return=None,  # what is not idle does not go back
            isolation_level="AUTOCOMMIT",
            json_deserializer=_read_json,
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
        pool = self._engine.pool
        assert isinstance(pool, QueuePool)
        self._pool = pool
        self._losses = 0

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    def connections(self) -> PoolUse:
        """How the pool is used now."""
        in_use = self._pool.checkedout()
        return PoolUse(in_use, self._pool.checkedin(), self._pool.size())

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

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Several statements that take effect together, each seeing what was committed before it.

        Raises as the other methods do.
        """
        async with self._connection() as driver, driver.transaction():
            yield Connection(driver)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        try:
            async with self._pooled() as driver:
                yield driver
        except PoolTimeoutError as error:
            raise _unavailable("all database connections are busy") from error
        except (psycopg.OperationalError, psycopg.InterfaceError, DBAPIError) as error:
            # Also a deadlock or a timeout: calling again later is all there is to do.
            raise _unavailable("the database cannot be reached") from error
        except psycopg.Error as error:
            _forget_values(error)
            raise

    @asynccontextmanager
    async def _pooled(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        pooled, driver = await self._checked_out()
        try:
            yield driver
        finally:
            if driver.closed:
                self._losses += 1
            if driver.pgconn.transaction_status == TransactionStatus.IDLE:
                pooled.close()
            else:
                await _drop(pooled, driver)

    async def _checked_out(
        self,
    ) -> tuple[PoolProxiedConnection, psycopg.AsyncConnection[Any]]:
        while True:
            pooled = await self._engine.raw_connection()
            driver = pooled.driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
            if pooled.info.setdefault("losses", self._losses) == self._losses:
                return pooled, driver
            # When one connection is lost, those that were open at the time most likely are, too.
            await _drop(pooled, driver)


async def _drop(pooled: PoolProxiedConnection, driver: psycopg.AsyncConnection[Any]) -> None:
    pooled.detach()
    await driver.close()


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
