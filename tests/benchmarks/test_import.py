"""What an import costs, of what PostgreSQL needs at least to write the same rows."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import URL

from job_service.store import migrate
from tests.benchmarks.measuring import in_turn, ratio, spread
from tests.benchmarks.report import Report
from tests.legacy_import.filling import Large
from tests.legacy_import.importing import Move
from tests.postgres_fixture import new_database, plain_url

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(3600),
]

ROWS: Final = Large(jobs=240_000, requests=160_000, merged=60_000)
ROUNDS: Final = 3
LIMIT: Final = 3


async def test_an_import_compared_with_insert_select(
    postgres_server: URL, tmp_path: Path, report: Report
) -> None:
    with new_database(postgres_server) as original, new_database(postgres_server) as imported:
        with psycopg.connect(plain_url(original)) as connection:
            ROWS.build(connection)
        await asyncio.to_thread(_imported, Move(plain_url(original), plain_url(imported), tmp_path))

        async def in_place() -> float:
            with _copy(postgres_server, original) as old:
                return await asyncio.to_thread(_imported, Move(old, old, tmp_path))

        async def from_another() -> float:
            with _copy(postgres_server, original) as old, new_database(postgres_server) as target:
                move = Move(old, plain_url(target), tmp_path)
                return await asyncio.to_thread(_imported, move)

        async def inserted() -> float:
            with _copy(postgres_server, imported) as url:
                return await asyncio.to_thread(_inserted, url)

        here, elsewhere, plain = await in_turn(ROUNDS, in_place, from_another, inserted)

    section = "Import of former rows, of INSERT … SELECT of the same rows"
    report.note(
        section,
        f"{ROWS.jobs:,} jobs and {ROWS.requests:,} requests, of which {ROWS.merged:,} had been "
        "merged, on a PostgreSQL that skips fsync. INSERT … SELECT writes every row of jobs and "
        "artifacts that the import writes, ready as they are there, into the same tables with "
        "their indexes, foreign keys and triggers. The import is a process from its start to its "
        "end: its schema, what it remembers of each former row, the checksums of every field and "
        "its report included.",
    )
    report.add(section, "INSERT … SELECT", spread([ROWS.rows / one for one in plain], "rows/s"))
    ratios = {"in place": ratio(here, plain), "from another database": ratio(elsewhere, plain)}
    for (what, found), seconds in zip(ratios.items(), (here, elsewhere), strict=True):
        rate = spread([ROWS.rows / one for one in seconds], "rows/s")
        report.add(section, what, rate, ratio=f"{found:.2f}", aim=f"at most {LIMIT}")
    assert max(ratios.values()) <= LIMIT


@contextmanager
def _copy(server: URL, original: URL) -> Iterator[str]:
    with new_database(server, template=original.database) as url:
        yield plain_url(url)


def _imported(move: Move) -> float:
    began = time.perf_counter()
    move.run("--cutover")
    return time.perf_counter() - began


def _inserted(database: str) -> float:
    """The rows of an import, once more into tables of their own."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE SCHEMA again")
        migrate.upgrade_under_lock(
            database.replace("postgresql:", "postgresql+psycopg:", 1), "again"
        )
        began = time.perf_counter()
        for table in ("route_keys", "generation_jobs", "job_artifacts"):
            connection.execute(
                f"INSERT INTO again.{table} OVERRIDING SYSTEM VALUE"
                f" SELECT * FROM public.{table} ORDER BY id".encode()
            )
        return time.perf_counter() - began
