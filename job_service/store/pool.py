"""Open connections to PostgreSQL, kept for the next statement."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, make_url

from job_service.store.driver import Driver

#: How long closing waits for statements that are under way.
_LAST_STATEMENTS_SECONDS: Final = 5.0


class PoolBusyError(Exception):
    """No connection became free in time."""


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections that are in use, that are open and idle, and that may be open at most."""

    in_use: int
    idle: int
    limit: int


@dataclass(slots=True, eq=False)
class _Pooled:
    driver: Driver
    #: How many connections had been lost when this one was made.
    losses: int


class ConnectionPool:
    """At most ``size`` connections in autocommit mode; the one used last is used next.

    It connects when a caller needs a connection, and tells that caller at once when it cannot.
    """

    def __init__(self, url: str, *, size: int, acquire_timeout: float, **options: Any) -> None:
        """``options`` are those of ``psycopg.AsyncConnection.connect``."""
        self._arguments = _connect_arguments(url) | options
        self._size = size
        self._acquire_timeout = acquire_timeout
        self._places = asyncio.Semaphore(size)
        self._idle: list[_Pooled] = []
        self._in_use: set[_Pooled] = set()
        self._losses = 0
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Driver]:
        """A connection for the block.

        Raises PoolBusyError, psycopg.OperationalError when none can be made or the pool is closed.
        """
        await self._take_place()
        try:
            pooled = await self._connected()
            try:
                yield pooled.driver
            finally:
                await self._put_back(pooled)
        finally:
            self._places.release()

    def use(self) -> PoolUse:
        """How it is used now."""
        return PoolUse(len(self._in_use), len(self._idle), self._size)

    async def close(self) -> None:
        """Close every connection: those in use when they are put back, or after some seconds."""
        self._closed = True
        await self._close_idle()
        try:
            async with asyncio.timeout(_LAST_STATEMENTS_SECONDS):
                for _ in range(self._size):
                    await self._places.acquire()
        except TimeoutError:
            for pooled in list(self._in_use):
                await pooled.driver.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise psycopg.OperationalError("the service is stopping")

    async def _take_place(self) -> None:
        self._refuse_if_closed()
        if not self._places.locked():
            await self._places.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._acquire_timeout):
                await self._places.acquire()
        except TimeoutError as error:
            raise PoolBusyError from error

    async def _connected(self) -> _Pooled:
        while self._idle:
            pooled = self._idle.pop()
            # When one connection is lost, those that were open at the time most likely are, too.
            if pooled.losses == self._losses:
                break
            await pooled.driver.close()
        else:
            self._refuse_if_closed()
            losses = self._losses
            pooled = _Pooled(await Driver.connect(**self._arguments), losses)
        self._in_use.add(pooled)
        return pooled

    async def _put_back(self, pooled: _Pooled) -> None:
        self._in_use.discard(pooled)
        driver = pooled.driver
        if driver.closed:
            self._losses += 1
        elif self._closed or driver.pgconn.transaction_status != TransactionStatus.IDLE:
            await driver.close()
        else:
            self._idle.append(pooled)

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().driver.close()


def _connect_arguments(url: str) -> dict[str, Any]:
    dialect = URL.create("postgresql+psycopg").get_dialect()()
    _, arguments = dialect.create_connect_args(make_url(url))
    return dict(arguments)
