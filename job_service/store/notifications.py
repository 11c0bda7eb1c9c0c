"""Notifications between the replicas that share a database: LISTEN and NOTIFY."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import make_url

from job_service.store.database import Database, statement

#: Bytes of the longest payload: PostgreSQL takes less than 8000.
MAX_PAYLOAD: Final = 7_999

_CHANNEL: Final = "generation_jobs"

_LISTEN: Final = f"LISTEN {_CHANNEL}".encode()

_NOTIFY: Final = statement(f"""
SELECT pg_notify('{_CHANNEL}', payload)
FROM unnest(CAST(:payloads AS text[])) WITH ORDINALITY AS p (payload, n) ORDER BY n
""")


class ListeningFailedError(Exception):
    """There is no connection that hears notifications, or it is lost."""


class Listener:
    """A connection that does nothing but listen. It hears what it was told itself, too."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def payloads(self, seconds: float) -> AsyncGenerator[str]:
        """What is notified within so many seconds. Raises ListeningFailedError.

        To be closed by whoever does not read to the end.
        """
        try:
            async with aclosing(self._connection.notifies(timeout=seconds)) as notifications:
                async for notification in notifications:
                    yield notification.payload
        except psycopg.Error as error:
            raise ListeningFailedError(str(error).strip()) from error


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
