"""What no text that anybody sends may ever touch, and a look at whether something has."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.hostile_text import hostile_texts
from tests.service_fixture import Sql

_TABLE = "canary"
#: All there is in the database but the rows of the service's own tables.
_SCHEMA = """
SELECT relname, relkind, reltuples IS NULL FROM pg_class
WHERE relnamespace IN ('public'::regnamespace) ORDER BY relname
"""


class Canaries:
    """An address, a folder and a table, put into hostile texts."""

    def __init__(self, folder: Path, sql: Sql, address: str, visits: list[bytes]) -> None:
        self.texts = hostile_texts(address=address, folder=str(folder), table=_TABLE)
        self._folder = folder
        self._sql = sql
        self._visits = visits
        self._before: Any = None

    async def note(self, *watched: Path) -> None:
        """Remember how everything is. ``watched``: folders in which nothing may appear."""
        self._watched = (self._folder, Path.cwd(), *watched)
        self._before = await self._look()

    async def assert_untouched(self) -> None:
        """Nobody has called, nothing was written, no table is another one."""
        assert not self._visits
        assert await self._look() == self._before

    async def _look(self) -> object:
        rows = await (await self._sql.execute(f"SELECT * FROM {_TABLE}")).fetchall()
        schema = await (await self._sql.execute(_SCHEMA)).fetchall()
        return rows, schema, [sorted(folder.iterdir()) for folder in self._watched]


@asynccontextmanager
async def canaries(folder: Path, sql: Sql) -> AsyncIterator[Canaries]:
    """Canaries while the block is."""
    visits: list[bytes] = []

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(await reader.read(100))
        writer.close()

    folder.mkdir()
    (folder / "secret").write_text("nobody reads this")
    await sql.execute(f"CREATE TABLE {_TABLE} (touched boolean NOT NULL)")
    await sql.execute(f"INSERT INTO {_TABLE} VALUES (false)")
    async with await asyncio.start_server(visited, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield Canaries(folder, sql, f"127.0.0.1:{port}", visits)
