"""The driver's connection, with a cursor for each statement that stays.

What the driver finds out about the types of a statement's parameters and columns it keeps with the
cursor; finding it out anew takes as long as all else that the driver does for a small statement.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg._queries import PostgresQuery
from psycopg.abc import Params, Query, Transformer
from psycopg.rows import namedtuple_row

#: Cursors kept with one connection; some statements are put together for one call.
_MOST_KEPT: Final = 128


class Driver(psycopg.AsyncConnection[Any]):
    """A connection for one task at a time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept: dict[bytes, _StatementCursor] = {}

    async def rows(self, query: bytes, parameters: Any) -> Sequence[Any]:
        """Run one statement and fetch all its rows, as named tuples of the columns."""
        cursor = self._cursor_of(query)
        try:
            return await (await cursor.execute(query, parameters)).fetchall()
        finally:
            cursor.release()

    async def run(self, query: bytes, parameters: Any) -> int:
        """Run one statement and say how many rows it changed."""
        cursor = self._cursor_of(query)
        try:
            return (await cursor.execute(query, parameters)).rowcount
        finally:
            cursor.release()

    def _cursor_of(self, query: bytes) -> "_StatementCursor":
        cursor = self._kept.get(query)
        if cursor is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            cursor = self._kept[query] = _StatementCursor(self, row_factory=_NamedRows())
        return cursor


class _StatementCursor(psycopg.AsyncCursor[Any]):
    """Runs one statement again and again.

    The driver would take its text apart each time, for one as long as that which creates jobs.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._converted: PostgresQuery | None = None
        self._converted_by: Transformer | None = None

    def release(self) -> None:
        """Drop the parameters and the result, which may be megabytes."""
        self._reset()
        self._tx.set_pgresult(None, set_loaders=False)
        if self._converted is not None:
            self._converted.params = None

    def _convert_query(self, query: Query, params: Params | None = None) -> PostgresQuery:
        if self._converted is None or self._converted_by is not self._tx:
            self._converted = super()._convert_query(query, params)
            self._converted_by = self._tx
        else:
            self._converted.dump(params)
        return self._converted


class _NamedRows:
    """Makes named tuples: the columns of one statement are named once."""

    def __init__(self) -> None:
        self._columns = -1
        self._make: Callable[[Sequence[Any]], Any] | None = None

    def __call__(self, cursor: psycopg.AsyncCursor[Any]) -> Callable[[Sequence[Any]], Any]:
        columns = -1 if cursor.pgresult is None else cursor.pgresult.nfields
        if self._make is None or columns != self._columns:
            self._make, self._columns = namedtuple_row(cursor), columns
        return self._make
