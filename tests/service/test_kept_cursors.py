"""Statements that are run again and again on a connection: nothing of one run is in the next."""

from collections.abc import AsyncIterator
from typing import Final

import psutil
import psycopg
import pytest

from job_service.store.database import Database, statement
from tests.service_fixture import Sql

RUNS: Final = 6  # beyond those after which the driver prepares a statement
MEBIBYTE: Final = 1 << 20


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """One connection, so that every run of a statement is on it."""
    opened = Database(database_url, pool_size=1)
    yield opened
    await opened.close()


async def test_each_run_has_its_own_parameters_whatever_their_types(database: Database) -> None:
    echo = statement("SELECT CAST(:text AS text) AS text, CAST(:ids AS bigint[]) AS ids")
    for n in range(RUNS):
        for text, ids in ((f"a{n}", [n, 2**60]), (None, []), ("", [1]), ("é" * n, None)):
            row = await database.row(echo, {"text": text, "ids": ids})
            assert row is not None
            assert (row.text, row.ids) == (text, ids)


async def test_a_run_that_fails_leaves_the_next_alone(database: Database) -> None:
    divided = statement("SELECT 12 / CAST(:by AS integer) AS quotient")
    for _ in range(RUNS):
        with pytest.raises(psycopg.DataError):
            await database.row(divided, {"by": 0})
        row = await database.row(divided, {"by": 4})
        assert row is not None
        assert row.quotient == 3


async def test_a_column_that_a_migration_adds_meanwhile_is_in_the_rows(
    database: Database, sql: Sql
) -> None:
    await sql.execute("CREATE TABLE growing AS SELECT 1 AS first")
    everything = statement("SELECT * FROM growing")
    assert await database.rows(everything) == [(1,)]
    await sql.execute("ALTER TABLE growing ADD COLUMN second integer DEFAULT 2")
    (row,) = await database.rows(everything)
    assert (row.first, row.second) == (1, 2)


async def test_neither_parameters_nor_rows_are_kept(database: Database) -> None:
    process = psutil.Process()
    size = 64 * MEBIBYTE
    for way in range(4):
        echo = statement(f"SELECT CAST(:text AS text) AS text, {way} AS way")
        row = await database.row(echo, {"text": "x" * size})
        assert row is not None
        assert len(row.text) == size
        del row
        if way == 0:
            before = process.memory_info().rss
    assert process.memory_info().rss < before + size // 2
