"""What was imported can be given back: the former tables are as they were, row by row."""

import psycopg
import pytest

from tests.legacy_import.conftest import Settle
from tests.legacy_import.samples import SHAPES, sample
from tests.legacy_import.snapshot import differences, snapshot
from tests.legacy_import.surroundings import SURROUNDINGS

pytestmark = pytest.mark.former


@pytest.mark.parametrize("name", SHAPES)
def test_undo_restores_the_former_tables(name: str, settle: Settle) -> None:
    move = settle(sample(SHAPES[name]))
    with psycopg.connect(move.old, autocommit=True) as connection:
        before = snapshot(connection)
        move.run("--cutover")
        move.run("--undo")
        assert differences(before, snapshot(connection)) == []


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
@pytest.mark.parametrize("name", SHAPES)
def test_undo_restores_dropped_tables_from_the_dump(name: str, settle: Settle) -> None:
    move = settle(sample(SHAPES[name]))
    dump = move.folder / "former.dump"
    with psycopg.connect(move.old, autocommit=True) as connection:
        before = snapshot(connection)
        move.run("--cutover")
        move.run("--drop-legacy", "--dump", str(dump))
        assert dump.stat().st_size > 0
        rows = [table for table in snapshot(connection) if table.startswith("legacy.")]
        assert rows == []
        move.run("--undo", "--dump", str(dump))
        assert differences(before, snapshot(connection)) == []


def test_what_was_undone_can_be_imported_again(settle: Settle) -> None:
    move = settle(sample(SHAPES["A"]))
    first = move.run("--cutover")
    move.run("--undo")
    second = move.run("--cutover")
    assert first.report is not None
    assert second.report is not None
    assert second.report["checksums"] == first.report["checksums"]


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
def test_nothing_is_dropped_before_the_cutover_or_without_a_dump(settle: Settle) -> None:
    move = settle(sample(SHAPES["A"]))
    dump = move.folder / "former.dump"
    with psycopg.connect(move.old, autocommit=True) as connection:
        move.run()
        before = snapshot(connection)
        for arguments in (["--drop-legacy"], ["--drop-legacy", "--dump", str(dump)]):
            refused = move.run(*arguments, succeeds=False)
            assert refused.code != 0
            assert "Traceback" not in refused.complaints
        assert differences(before, snapshot(connection)) == []
        move.run("--cutover")
        before = snapshot(connection)
        dump.write_text("somebody's")
        for arguments in (["--drop-legacy"], ["--drop-legacy", "--dump", str(move.folder)]):
            assert move.run(*arguments, succeeds=False).code != 0
        assert differences(before, snapshot(connection)) == []
        assert dump.read_text() == "somebody's"


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
@pytest.mark.parametrize("dropped", [False, True], ids=["kept", "dropped"])
@pytest.mark.parametrize("name", ["A", pytest.param("B", marks=pytest.mark.heavy)])
def test_undo_restores_what_hangs_on_the_tables(
    name: str, settle: Settle, *, dropped: bool
) -> None:
    move = settle(sample(SHAPES[name]))
    dump = move.folder / "former.dump"
    with psycopg.connect(move.old, autocommit=True) as connection:
        connection.execute(SURROUNDINGS.encode())
        before = snapshot(connection)
        move.run("--cutover")
        if dropped:
            move.run("--drop-legacy", "--dump", str(dump))
            move.run("--undo", "--dump", str(dump))
        else:
            move.run("--undo")
        assert differences(before, snapshot(connection)) == []


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
@pytest.mark.parametrize("name", ["A", "C"])
def test_ids_given_here_are_not_given_again_after_undo(name: str, settle: Settle) -> None:
    move = settle(sample(SHAPES[name]))
    asked = (
        b"INSERT INTO generation_jobs (prompt, job_type, status) VALUES (%s, 'image', 'pending')"
    )
    with psycopg.connect(move.old, autocommit=True) as connection:
        move.run("--cutover")
        here = [
            connection.execute(asked + b" RETURNING id", [prompt]).fetchone()
            for prompt in ("made here", "made here, too")
        ]
        move.run("--undo")
        there = connection.execute(asked + b" RETURNING id", ["made there"]).fetchone()
        assert there is not None
        assert all(one is not None and one < there for one in here)
        rows = connection.execute(
            "SELECT id, prompt FROM generation_jobs WHERE prompt LIKE 'made %' ORDER BY id"
        ).fetchall()
        assert [prompt for _, prompt in rows] == ["made here", "made here, too", "made there"]


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
def test_foreign_keys_made_since_the_cutover_lead_to_the_former_table(settle: Settle) -> None:
    move = settle(sample(SHAPES["B"]))
    with psycopg.connect(move.old, autocommit=True) as connection:
        move.run("--cutover")
        connection.execute("CREATE TABLE ratings (job_id bigint REFERENCES generation_jobs (id))")
        connection.execute("INSERT INTO ratings VALUES (3)")
        move.run("--undo")
        referred = connection.execute(
            "SELECT CAST(CAST(confrelid AS regclass) AS text), convalidated FROM pg_constraint"
            " WHERE conrelid = to_regclass('ratings') AND contype = 'f'"
        ).fetchall()
        assert referred == [("generation_jobs", True)]


#: Types that the former columns have elsewhere.
_OTHERWISE_TYPED = """
CREATE TYPE job_state AS ENUM (
    'pending', 'running', 'processing', 'started', 'completed', 'failed', 'exploded'
);
DELETE FROM generation_jobs WHERE status = 'cancelled';
ALTER TABLE generation_jobs
    ALTER COLUMN status TYPE job_state USING CAST(status AS job_state),
    ALTER COLUMN user_id TYPE varchar(36),
    ALTER COLUMN created_at TYPE timestamptz(3),
    ALTER COLUMN {params} TYPE json,
    ALTER COLUMN prompt TYPE varchar(20000);
"""


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
@pytest.mark.parametrize(
    ("name", "params"), [("no application tables", "parameters"), ("B", "params")]
)
def test_what_was_made_here_is_written_back(name: str, params: str, settle: Settle) -> None:
    move = settle(sample(SHAPES[name]))
    with psycopg.connect(move.old, autocommit=True) as connection:
        if name == "B":
            connection.execute(
                "ALTER TABLE generation_jobs DROP CONSTRAINT generation_jobs_user_id_fkey"
            )
        connection.execute(_OTHERWISE_TYPED.format(params=params).encode())
        before = snapshot(connection)["public.generation_jobs"]["rows"]
        move.run("--cutover")
        connection.execute(
            "INSERT INTO generation_jobs (user_id, prompt, checkpoint_model, lora_models, width,"
            " seed, params, created_at) VALUES (gen_random_uuid(), 'made here', 'sdxl.safetensors',"
            ' \'[{"name": "detail", "strength_model": 0.5, "strength_clip": 0.5}]\', 640, 42,'
            " '{\"style\": \"oil\"}', '2025-06-07 08:09:10.5+00')"
        )
        connection.execute(
            "INSERT INTO generation_jobs (prompt, status, completed_at)"
            " VALUES ('has no word there', 'cancelled', now())"
        )
        undone = move.run("--undo")
        assert [row["kind"] for row in undone.rows("rejected")] == ["rejected"]
        rows = connection.execute(
            f"SELECT to_jsonb(job) || coalesce(to_jsonb(job) -> '{params}', '{{}}')"
            " FROM generation_jobs AS job WHERE prompt = 'made here'".encode()
        ).fetchall()
        ((made,),) = rows
        assert made["created_at"] == "2025-06-07T08:09:10.5+00:00"
        assert (made["status"], made["style"], made["width"]) == ("pending", "oil", 640)
        assert made["checkpoint_model"] == "sdxl.safetensors"
        assert made["lora_models"][0]["name"] == "detail"
        assert made["sampler_params"] == {"seed": 42}
        connection.execute("DELETE FROM generation_jobs WHERE prompt = 'made here'")
        assert snapshot(connection)["public.generation_jobs"]["rows"] == before
