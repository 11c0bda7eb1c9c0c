"""What cannot be imported is refused in one clear line, and nothing has been touched."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests.legacy_import.conftest import MakeDatabase
from tests.legacy_import.importing import Move, Outcome
from tests.legacy_import.samples import SHAPES, sample
from tests.legacy_import.snapshot import snapshot


@pytest.fixture
def old(make_database: MakeDatabase) -> str:
    """A former installation in state B."""
    url = make_database()
    with psycopg.connect(url) as connection:
        sample(SHAPES["B"]).build(connection)
    return url


@pytest.fixture
def target(make_database: MakeDatabase) -> str:
    return make_database()


def refused(outcome: Outcome, *words: str) -> None:
    """It did not end well, and says why in one line."""
    assert outcome.code not in (0, None)
    assert "Traceback" not in outcome.complaints
    (line,) = (one for one in outcome.complaints.splitlines() if one.startswith("job-service: "))
    for word in words:
        assert word in line, line


@pytest.mark.former
@pytest.mark.parametrize("table", ["workers", "models", "job_artifacts", "installation"])
def test_a_table_of_the_application_named_like_ours(table: str, old: str, tmp_path: Path) -> None:
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {table} (id serial PRIMARY KEY, theirs text)".encode())
        connection.execute(f"INSERT INTO {table} (theirs) VALUES ('precious')".encode())
        before = snapshot(connection)
        move = Move(old, old, tmp_path)
        for arguments in (["--cutover"], ["--dry-run"]):
            refused(move.run(*arguments, succeeds=False), table)
        refused(move.command("migrate"), table)
        assert snapshot(connection) == before


_MISTAKES: dict[str, Callable[[str], tuple[str, ...]]] = {
    "no URL": lambda old: ("not a database",),
    "another kind of database": lambda old: ("sqlite:///jobs.db",),
    "nobody listens": lambda old: ("postgresql://127.0.0.1:1/jobs",),
    "no such database": lambda old: (make_url(old).set(database="absent").render_as_string(),),
}


@pytest.mark.former
@pytest.mark.parametrize("mistake", _MISTAKES)
def test_a_database_that_cannot_be_read(
    mistake: str, old: str, target: str, tmp_path: Path
) -> None:
    (wrong,) = _MISTAKES[mistake](old)
    refused(Move(wrong, target, tmp_path).run("--cutover", succeeds=False))


@pytest.mark.former
def test_a_database_without_former_tables(target: str, old: str, tmp_path: Path) -> None:
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute("DROP TABLE comfyui_generation_requests, generation_jobs CASCADE")
    refused(Move(old, target, tmp_path).run("--cutover", succeeds=False), "former tables")


@pytest.mark.former
@pytest.mark.parametrize("in_place", [True, False])
def test_rows_that_cannot_be_told_apart(
    old: str, target: str, tmp_path: Path, *, in_place: bool
) -> None:
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute(
            "ALTER TABLE generation_jobs DROP CONSTRAINT generation_jobs_pkey CASCADE,"
            " ALTER COLUMN id DROP NOT NULL"
        )
        connection.execute(
            "INSERT INTO generation_jobs (id, prompt) VALUES (3, 'twice'), (NULL, 'without')"
        )
        move = Move(old, old if in_place else target, tmp_path)
        refused(move.run("--cutover", succeeds=False), "2 with id 3", "1 without an id")
        connection.execute("DELETE FROM generation_jobs WHERE prompt IN ('twice', 'without')")
        move.run("--cutover")


@pytest.mark.former
def test_a_database_of_our_own_is_no_former_one(
    target: str, make_database: MakeDatabase, tmp_path: Path
) -> None:
    ours = make_database()
    assert Move(ours, ours, tmp_path).command("migrate").code == 0
    refused(Move(ours, target, tmp_path).run("--cutover", succeeds=False))
    refused(Move(ours, ours, tmp_path).run("--cutover", succeeds=False))


@pytest.mark.former
def test_no_permission_to_read_the_former_tables(old: str, target: str, tmp_path: Path) -> None:
    role = "ada"
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS ada")
        connection.execute("CREATE ROLE ada LOGIN")
        try:
            as_ada = make_url(old).set(username=role).render_as_string(hide_password=False)
            outcome = Move(as_ada, target, tmp_path).run("--cutover", succeeds=False)
            refused(outcome, "permission denied")
            before = snapshot(connection)
            outcome = Move(as_ada, as_ada, tmp_path).run("--cutover", succeeds=False)
            refused(outcome)
            assert snapshot(connection) == before
        finally:
            connection.execute("DROP OWNED BY ada; DROP ROLE ada")


@pytest.mark.former
@pytest.mark.parametrize(
    "arguments",
    [
        ("--batch", "0"),
        ("--running", "ignore"),
        ("--artifacts-root", "/nonexistent/folder"),
        ("--report", "/nonexistent/folder/report.json"),
        ("--id-headroom", "-1"),
        ("--undo", "--drop-legacy"),
    ],
)
def test_options_that_mean_nothing(
    arguments: tuple[str, ...], old: str, target: str, tmp_path: Path
) -> None:
    with psycopg.connect(old, autocommit=True) as connection:
        before = snapshot(connection)
        outcome = Move(old, target, tmp_path).command("import-legacy", "--from", old, *arguments)
        assert outcome.code not in (0, None)
        assert "Traceback" not in outcome.complaints
        named = arguments[0].removeprefix("--") in outcome.complaints
        assert named or arguments[1] in outcome.complaints
        assert snapshot(connection) == before
