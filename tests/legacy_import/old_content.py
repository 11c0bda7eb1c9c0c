"""Rows of the former schema, written into a database and read back as they really are there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import psycopg

from tests.legacy_import.old_shape import OldShape

#: One row: columns and their values as PostgreSQL writes them; null is None.
Row: TypeAlias = Mapping[str, str | None]
Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

JOBS: Final = "generation_jobs"
REQUESTS: Final = "comfyui_generation_requests"


@dataclass(frozen=True)
class OldContent:
    """A whole former installation.

    ``notified``: ids of jobs that notifications refer to. ``sequences_behind``: ids were written
    past the sequences, as a restored backup does it.
    """

    shape: OldShape
    jobs: Sequence[Row] = ()
    requests: Sequence[Row] = ()
    notified: Sequence[int] = ()
    sequences_behind: bool = field(default=False)

    def build(self, connection: Connection) -> None:
        """Make the tables and fill them."""
        for statement in self.shape.statements():
            connection.execute(statement.encode())
        insert(connection, JOBS, self.jobs)
        insert(connection, REQUESTS, self.requests)
        for job_id in self.notified if self.shape.app_tables else ():
            connection.execute(
                "INSERT INTO user_notifications (message, related_job_id) VALUES ('done', %s)",
                [job_id],
            )
        if not self.sequences_behind:
            tables = [JOBS, REQUESTS] if self.shape.has_requests else [JOBS]
            for table in tables:
                connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id))"
                    f" FROM {table} HAVING count(*) > 0".encode()
                )
        connection.commit()


def insert(connection: Connection, table: str, rows: Sequence[Row]) -> None:
    """Add rows as they are, ids included."""
    for columns, alike in _by_columns(rows):
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in alike:
                copy.write_row([row[column] for column in columns])


def _by_columns(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault(tuple(row), []).append(row)
    yield from kinds.items()


@dataclass(frozen=True)
class Stored:
    """The rows of both tables by id, every value as PostgreSQL writes it, times in UTC."""

    jobs: Mapping[int, Row]
    requests: Mapping[int, Row]


def stored(connection: Connection) -> Stored:
    """What is there, in whatever columns."""
    return Stored(_table(connection, JOBS), _table(connection, REQUESTS))


def _table(connection: Connection, name: str) -> dict[int, Row]:
    columns = connection.execute(
        """
        SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
        WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
        """,
        [name],
    ).fetchall()
    if not columns:
        return {}
    values = ", ".join(_as_text(column, kind) for column, kind in columns)
    found = connection.execute(f"SELECT {values} FROM {name} ORDER BY id".encode()).fetchall()
    names = [column for column, _ in columns]
    rows = (dict(zip(names, row, strict=True)) for row in found)
    return {int(row["id"]): row for row in rows}


def _as_text(column: str, kind: str) -> str:
    if kind == "timestamp with time zone":
        column = f"({column} AT TIME ZONE 'UTC')"
    return f"CAST({column} AS text)"
