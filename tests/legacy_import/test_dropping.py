"""Former tables are dropped only when all that is in them is in the jobs, and in a dump."""

import psycopg
import pytest

from tests.legacy_import.conftest import MakeDatabase, Settle
from tests.legacy_import.importing import Move, Outcome
from tests.legacy_import.samples import SHAPES, sample
from tests.legacy_import.snapshot import differences, snapshot

pytestmark = [
    pytest.mark.former,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("settle", ["in place"], indirect=True),
]


@pytest.fixture
def move(settle: Settle) -> Move:
    """An installation that was cut over."""
    made = settle(sample(SHAPES["B"]))
    made.run("--cutover")
    return made


def drop(move: Move) -> Outcome:
    return move.run("--drop-legacy", "--dump", str(move.folder / "former.dump"), succeeds=False)


def refused(outcome: Outcome) -> str:
    """The one line it says why with."""
    assert outcome.code not in (0, None)
    assert "Traceback" not in outcome.complaints
    (line,) = (one for one in outcome.complaints.splitlines() if one.startswith("job-service: "))
    return line


WRITTEN = {
    "3": "UPDATE legacy.generation_jobs SET error_message = 'late' WHERE id = 3",
    "2, 4": "UPDATE legacy.comfyui_generation_requests SET width = 8 WHERE id IN (2, 4)",
    "9999": "INSERT INTO legacy.generation_jobs (id, prompt) VALUES (9999, 'late')",
    "3, 4, 5": "ALTER TABLE legacy.generation_jobs ADD COLUMN late text DEFAULT 'x'",
}


@pytest.mark.heavy
def test_what_was_written_since_it_was_imported_is_not_dropped(move: Move) -> None:
    with psycopg.connect(move.target, autocommit=True) as connection:
        for ids, written in WRITTEN.items():
            connection.execute("CREATE SCHEMA saved")
            for table in ("generation_jobs", "comfyui_generation_requests"):
                connection.execute(f"CREATE TABLE saved.{table} AS TABLE legacy.{table}".encode())
            connection.execute(written.encode())
            before = snapshot(connection)
            line = refused(drop(move))
            assert f"(ids {ids}" in line
            assert "nothing was dropped" in line
            assert snapshot(connection) == before
            assert not (move.folder / "former.dump").exists()
            connection.execute("ALTER TABLE legacy.generation_jobs DROP COLUMN IF EXISTS late")
            for table in ("generation_jobs", "comfyui_generation_requests"):
                connection.execute(f"DELETE FROM legacy.{table}".encode())
                connection.execute(
                    f"INSERT INTO legacy.{table} SELECT * FROM saved.{table}".encode()
                )
            connection.execute("DROP SCHEMA saved CASCADE")
        assert drop(move).code == 0


def test_what_a_view_reads_is_not_dropped(move: Move) -> None:
    with psycopg.connect(move.target, autocommit=True) as connection:
        connection.execute("CREATE VIEW old_prompts AS SELECT prompt FROM legacy.generation_jobs")
        before = snapshot(connection)
        assert "old_prompts" in refused(drop(move))
        assert snapshot(connection) == before
        assert not (move.folder / "former.dump").exists()
        connection.execute("DROP VIEW old_prompts")
        assert drop(move).code == 0


def test_from_another_database_nothing_is_dropped(move: Move, make_database: MakeDatabase) -> None:
    other = make_database()
    dump = move.folder / "former.dump"
    with psycopg.connect(move.target, autocommit=True) as connection:
        before = snapshot(connection)
        line = refused(
            move.command("import-legacy", "--from", other, "--drop-legacy", "--dump", str(dump))
        )
        assert "--from" in line
        assert "--drop-legacy" in line
        assert differences(before, snapshot(connection)) == []
        assert not dump.exists()


NONSENSE = [
    ["--undo", "--dry-run"],
    ["--drop-legacy", "--dump", "{dump}", "--dry-run"],
    ["--drop-legacy", "--dump", "{dump}", "--cutover"],
    ["--drop-legacy", "--undo"],
    ["--undo", "--artifacts-root", "."],
    ["--cutover", "--dump", "{dump}"],
    ["--from", "{other}", "--undo"],
]


def test_options_that_do_not_belong_together_do_nothing(
    move: Move, make_database: MakeDatabase
) -> None:
    values = {"dump": str(move.folder / "former.dump"), "other": make_database()}
    with psycopg.connect(move.target, autocommit=True) as connection:
        before = snapshot(connection)
        for arguments in NONSENSE:
            given = [one.format(**values) for one in arguments]
            line = refused(move.command("import-legacy", *given))
            assert arguments[-1] in line or arguments[-2] in line
            assert snapshot(connection) == before
