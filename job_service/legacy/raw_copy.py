"""The former tables of another database, brought across as they are into temporary tables."""

import dataclasses
from collections.abc import Callable
from typing import Final

from job_service.legacy.inspection import Found, Table
from job_service.legacy.session import Driver, one

#: Types whose binary form is the same everywhere; others come as text.
_PORTABLE: Final = frozenset(
    (
        "smallint",
        "integer",
        "bigint",
        "text",
        "uuid",
        "json",
        "jsonb",
        "boolean",
        "real",
        "double precision",
        "date",
        "bytea",
        "text[]",
    )
)

#: Bytes of rows that are sent together.
_WRITTEN_AT_ONCE: Final = 256 * 1024


def _portable(type_: str) -> bool:
    return type_ in _PORTABLE or type_.startswith(("character varying", "timestamp", "numeric"))


async def copy(
    source: Driver, target: Driver, found: Found, advance: Callable[[str, int], None]
) -> Found:
    """Copy every table, as one moment saw them all; what there is then on the target.

    ``advance`` is told of the table and how many more of its rows have come; not of models.
    """
    async with source.transaction():
        await source.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tables = {
            name: await _copy_table(source, target, table, advance)
            for name, table in found.tables.items()
        }
        models = found.models and await _copy_table(
            source, target, found.models, lambda _table, _rows: None
        )
    return dataclasses.replace(found, tables=tables, models=models)


async def _copy_table(
    source: Driver, target: Driver, table: Table, advance: Callable[[str, int], None]
) -> Table:
    columns = {name: type_ if _portable(type_) else "text" for name, type_ in table.columns.items()}
    raw = dataclasses.replace(table, name=f"raw_{table.name}", schema="pg_temp", columns=columns)
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in columns}
    defined = ", ".join(f"{quoted[name]} {type_}" for name, type_ in columns.items())
    picked = ", ".join(
        quoted[name] if type_ == table.columns[name] else f"CAST({quoted[name]} AS text)"
        for name, type_ in columns.items()
    )
    await target.execute(f"CREATE TEMPORARY TABLE raw_{table.name} ({defined})".encode())
    reading = f"COPY (SELECT {picked} FROM {table.qualified}) TO STDOUT (FORMAT binary)"
    writing = f"COPY {raw.qualified} FROM STDIN (FORMAT binary)"
    async with (
        source.cursor().copy(reading.encode()) as read,
        target.cursor().copy(writing.encode()) as write,
    ):
        together: list[bytes] = []
        size = 0
        async for row in read:
            together.append(bytes(row))
            size += len(row)
            if size >= _WRITTEN_AT_ONCE:
                await write.write(b"".join(together))
                advance(table.name, len(together))
                together, size = [], 0
        await write.write(b"".join(together))
        advance(table.name, len(together) - 1)  # the end comes like a row
    await target.execute(f"ALTER TABLE {raw.qualified} ADD PRIMARY KEY (id)".encode())
    await target.execute(f"ANALYZE {raw.qualified}".encode())
    rows, highest = await one(target, f"SELECT count(*), max(id) FROM {raw.qualified}")
    return dataclasses.replace(raw, rows=rows, max_id=highest)
