"""Notifications between the replicas that share a database: LISTEN and NOTIFY."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import make_url

from job_service.store.database import COMMITTED_SOON, Database, statement

#: Bytes of the longest payload: PostgreSQL takes less than 8000.
MAX_PAYLOAD: Final = 7_999

_CHANNEL: Final = "generation_jobs"

_LISTEN: Final = f"LISTEN {_CHANNEL}".encode()

# PostgreSQL keeps no notification over a crash, so there is nothing to wait for the disk for. It
# commits those who notify one after the other: they would wait for each other's disk, too.
_NOTIFY: Final = statement(f"""
SELECT pg_notify('{_CHANNEL}', payload)
FROM {COMMITTED_SOON},
    unnest(CAST(:payloads AS text[])) WITH ORDINALITY AS p (payload, n)
ORDER BY n
""")


class ListeningFailedError(Exception):
    """There is no connection that hears notifications, or it is lost."""


class Listener:
    """A connection that does nothing but listen. It hears what it was told itself, too."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def heard(self, seconds: float) -> list[str]:
        """The payloads that have arrived, at least one; none when so many seconds are over.

        Raises ListeningFailedError.
        """
        # Not by the driver's own generator: that wakes up ten times a second.
        driver = self._connection.pgconn
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await _readable(driver.socket)
                    driver.consume_input()
                    arrived = [one.extra.decode() for one in iter(driver.notifies, None)]
                    if arrived:
                        return arrived
        except TimeoutError:
            return []
        except psycopg.Error as error:
            raise ListeningFailedError(str(error).strip()) from error


async def _readable(descriptor: int) -> None:
    """Wait until there is something to read, or nothing more to come."""
    loop = asyncio.get_running_loop()
    something = asyncio.Event()
    loop.add_reader(descriptor, something.set)
    try:
        await something.wait()
    finally:
        loop.remove_reader(descriptor)


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Listener]:
    """Listen from now on, on a connection of its own to ``url``. Raises ListeningFailedError."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        connection = await psycopg.AsyncConnection.connect(
            plain,
            autocommit=True,
            application_name="job_service listener",
            connect_timeout=5,
            # a server that is gone without a word: who only listens would never notice
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=15_000,
        )
    except psycopg.Error as error:
        raise ListeningFailedError(str(error).strip()) from error
    async with connection:
        try:
            await connection.execute(_LISTEN)
        except psycopg.Error as error:
            raise ListeningFailedError(str(error).strip()) from error
        yield Listener(connection)


async def notify(database: Database, payloads: Sequence[str]) -> None:
    """Tell whoever listens, by one statement. Raises RefusedError: DATABASE_UNAVAILABLE."""
    await database.rows(_NOTIFY, {"payloads": list(payloads)})
