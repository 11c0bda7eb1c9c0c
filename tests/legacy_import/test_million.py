"""A million rows come home in bounded memory, and people see how far they are."""

import os
import pty
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Final

import psycopg
import pytest
from sqlalchemy import URL

from tests.legacy_import.filling import Large
from tests.legacy_import.importing import COMMAND, Move
from tests.postgres_fixture import new_database, plain_url

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3600)]

MILLION: Final = Large(jobs=600_000, requests=400_000, merged=150_000)
TENTH: Final = Large(jobs=60_000, requests=40_000, merged=15_000)
#: What ten times the rows may need more.
MORE_MEMORY: Final = 1.25


@dataclass(frozen=True)
class Imported:
    """How an import went. ``memory``: most bytes that its process had at a time."""

    rows: int
    seconds: float
    memory: int
    printed: str
    shown: str

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows in {self.seconds:.0f} s: {self.rows / self.seconds:,.0f} rows/s, "
            f"at most {self.memory / 1024**2:.0f} MiB of memory"
        )


def test_a_million_rows(
    postgres_server: URL, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _installation(postgres_server, TENTH, tmp_path) as move:
        less = _import(move, TENTH)
    with _installation(postgres_server, MILLION, tmp_path) as move:
        more = _import(move, MILLION)
        with psycopg.connect(move.target) as connection:
            before = connection.execute(_SUMS_BEFORE).fetchone()
            assert connection.execute(_SUMS_AFTER).fetchone() == before

    with capsys.disabled():
        print(f"\nimport-legacy: {less}\nimport-legacy: {more}")
    assert more.memory < less.memory * MORE_MEMORY
    assert re.search(r"[0-9]+/1000000\S* [0-9,]+ rows/s", more.shown)
    assert re.search(r"imported 1,000,000 of 1,000,000 rows, [0-9,]+ a second", more.printed)


@contextmanager
def _installation(server: URL, rows: Large, folder: Path) -> Iterator[Move]:
    """In place: nothing of it is in memory or on disk for any other reason."""
    with new_database(server) as url:
        plain = plain_url(url)
        with psycopg.connect(plain) as connection:
            rows.build(connection)
        yield Move(plain, plain, folder)


def _import(move: Move, rows: Large) -> Imported:
    """Import as from a terminal, where there is a progress bar."""
    report = str(move.folder / "report.json")
    began = time.monotonic()
    ours, terminal = pty.openpty()
    shown: list[bytes] = []
    with move.printed.open("w") as printed:
        process = subprocess.Popen(
            [COMMAND, *move.importing("--cutover", "--report", report)],
            env=move.environment() | {"TERM": "xterm", "COLUMNS": "160"},
            stdout=printed,
            stderr=terminal,
        )
    os.close(terminal)
    watching = Thread(target=_watch, args=(ours, shown))
    watching.start()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    watching.join()
    os.close(ours)
    text = b"".join(shown).decode(errors="replace")
    assert process.returncode == 0, text[-3000:]
    return Imported(rows.rows, seconds, used.ru_maxrss * 1024, move.printed.read_text(), text)


def _watch(terminal: int, shown: list[bytes]) -> None:
    """Keep what is written to a terminal, until nobody has it open."""
    try:
        while block := os.read(terminal, 65536):
            shown.append(block)
    except OSError:
        return  # how Linux tells of the end


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
