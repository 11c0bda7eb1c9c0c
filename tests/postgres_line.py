"""Ways to the tests' PostgreSQL that can be cut."""

import asyncio

from sqlalchemy import URL

from tests.breakable_line import BreakableLine, Streams


def line_to(url: URL) -> BreakableLine:
    """A line to a PostgreSQL, on whichever kind of socket it listens."""
    return BreakableLine(lambda: _connect(url))


def over(line: BreakableLine, url: URL) -> str:
    """The URL of the same database by way of the line."""
    by_way = URL.create(
        "postgresql", url.username, url.password, "127.0.0.1", line.port, url.database
    )
    return by_way.render_as_string(hide_password=False)


async def _connect(url: URL) -> Streams:
    folder = url.query.get("host") or url.host
    if isinstance(folder, str) and folder.startswith("/"):
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{url.port or 5432}")
    return await asyncio.open_connection(url.host, url.port or 5432)
