"""A million rows come home in bounded memory."""

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import URL

from tests.legacy_import.filling import Large
from tests.legacy_import.importing import Move
from tests.postgres_fixture import new_database

pytestmark = [pytest.mark.former, pytest.mark.timeout(1200)]

ROWS: Final = Large(jobs=600_000, requests=400_000, merged=150_000)
MOST_MEMORY: Final = 300 * 1024 * 1024


@pytest.fixture
def move(postgres_server: URL, tmp_path: Path) -> Iterator[Move]:
    """In place: nothing of it is in memory or on disk for any other reason."""
    with new_database(postgres_server) as url:
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            ROWS.build(connection)
        yield Move(plain, plain, tmp_path)


def test_a_million_rows(move: Move, tmp_path: Path) -> None:
    began = time.monotonic()
    process = move.start("--cutover", "--report", str(tmp_path / "report.json"))
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    complaints = process.stderr.read()
    process.stderr.close()
    assert process.returncode == 0, complaints[-3000:]

    memory = used.ru_maxrss * 1024
    sys.stdout.write(
        f"\n{ROWS.rows:,} rows in {seconds:.0f} s, {ROWS.rows / seconds:,.0f} a second, "
        f"at most {memory / 1024**2:.0f} MiB\n"
    )
    assert memory < MOST_MEMORY
    # it says itself how fast it was
    assert re.search(r"rows (a|per) second|rows/s", complaints + move.printed.read_text())
    with psycopg.connect(move.target) as connection:
        before = connection.execute(_SUMS_BEFORE).fetchone()
        assert connection.execute(_SUMS_AFTER).fetchone() == before


_SUMS_BEFORE: Final = b"""
SELECT sum(n), sum(prompts), sum(times) FROM (
    SELECT count(*) AS n, sum(hashtextextended(prompt, 0)) AS prompts,
        sum(extract(epoch FROM created_at)) AS times FROM legacy.generation_jobs
    UNION ALL
    SELECT count(*), sum(hashtextextended(prompt, 0)), sum(extract(epoch FROM created_at))
    FROM legacy.comfyui_generation_requests AS request WHERE NOT EXISTS (
        SELECT FROM legacy.generation_jobs AS job WHERE job.user_id = request.user_id
            AND job.prompt = request.prompt AND job.created_at = request.created_at
    )
) AS former
"""
_SUMS_AFTER: Final = b"""
SELECT count(*), sum(hashtextextended(prompt, 0)), sum(extract(epoch FROM created_at))
FROM generation_jobs
"""
