"""Connections of an import: one at a time does everything, in the order it is written."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_fixed,
)

from job_service.cannot_run import CannotRunError
from job_service.store import driver as store_driver
from job_service.store.database import Connection
from job_service.store.migrate import ADVISORY_LOCK

Driver: TypeAlias = store_driver.Driver

#: What makes the text of a value the same on every server, and batches fast.
_SETTINGS: Final = (
    "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=1"
    " -c bytea_output=hex -c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    " -c jit=off -c random_page_cost=1.1"
    " -c work_mem=64MB -c temp_buffers=64MB -c default_statistics_target=1"
    " -c client_min_messages=warning"
)


_LOCK_SECONDS: Final = 30


class ImportFailedError(CannotRunError):
    """The import cannot be done, or was rolled back; the message says why and what to do."""


def plain(url: str) -> str:
    """A database URL as libpq takes it."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ImportFailedError(
            "a database is named by a URL such as postgresql://user:password@host/database"
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ImportFailedError(f"{parsed.get_backend_name()} is not PostgreSQL")
    return parsed.set(drivername="postgresql").render_as_string(hide_password=False)


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Driver]:
    """A connection in autocommit mode. Raises ImportFailedError when there is no database."""
    try:
        driver = await Driver.connect(
            plain(url),
            autocommit=True,
            row_factory=tuple_row,
            application_name="job_service import-legacy",
            connect_timeout=10,
            options=_SETTINGS,
            prepare_threshold=None,
        )
    except psycopg.Error as error:  # also for a URL that cannot be understood
        why = " ".join(str(error).split())
        raise ImportFailedError(f"cannot reach the database: {why}") from error
    async with driver:
        yield driver


async def one(driver: Driver, sql: str) -> tuple[Any, ...]:
    """The only row of a statement that is put together from names of the catalogue."""
    row = await (await driver.execute(sql.encode())).fetchone()
    assert row is not None, "the statement answers one row"
    return tuple(row)


def statements(driver: Driver) -> Connection:
    """Run statements as the store does."""
    return Connection(driver)


async def lock(driver: Driver) -> None:
    """Keep other imports and migrations away for as long as the connection lives.

    What a killed import has left running in the server ends first. Raises ImportFailedError when
    another one is under way.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(_HeldError),
        stop=stop_after_delay(_LOCK_SECONDS),
        wait=wait_fixed(0.2),
        retry_error_callback=_refuse,
    ):
        with attempt:
            cursor = await driver.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
            row = await cursor.fetchone()
            if row is None or not row[0]:
                raise _HeldError


class _HeldError(Exception):
    """Somebody else has the lock."""


def _refuse(_: RetryCallState) -> None:
    raise ImportFailedError("another import or migration is under way on this database")
