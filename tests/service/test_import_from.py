"""Former tables of another database become jobs here; the other database is only read."""

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from job_service import process
from job_service.legacy import bulk_load
from job_service.legacy.session import ImportFailedError, connect
from job_service.settings import Settings
from tests import former_tables
from tests.former_tables import content, execute, import_legacy, query, read

STATES = pytest.mark.parametrize("state", ["A", "B", "C"])
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
JOBS = "SELECT job::text FROM generation_jobs AS job ORDER BY id"


@STATES
async def test_everything_comes_and_a_second_run_changes_nothing(
    state: str, empty_database_url: str, database_url: str, tmp_path: Path
) -> None:
    source, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(source, state)
    before = content(source)
    await import_legacy(database_url, source_url=source, dry_run=True)
    assert query(database_url, "SELECT count(*) FROM generation_jobs") == [(0,)]

    await import_legacy(database_url, source_url=source, report=report)
    counts = read(report)["counts"]["generation_jobs"]
    assert counts["after"] + counts["waiting"] == counts["before"] == 5
    await import_legacy(database_url, source_url=source, cutover=True, batch=2, report=report)
    told = read(report)
    assert told["counts"]["generation_jobs"]["after"] == 5
    assert told["phase"] == "cut over"
    assert content(source) == before
    jobs = query(database_url, JOBS)
    await import_legacy(database_url, source_url=source, cutover=True, report=report)
    assert query(database_url, JOBS) == jobs
    assert read(report)["verified"]
    (next_id,) = query(
        database_url, "INSERT INTO generation_jobs (prompt) VALUES ('new') RETURNING id"
    )
    assert next_id[0] > max(row[0] for row in query(database_url, "SELECT job_id FROM legacy_rows"))


async def test_rows_that_change_before_the_cutover_are_brought_up_to_date(
    empty_database_url: str, database_url: str, tmp_path: Path
) -> None:
    source, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(source, "B")
    await import_legacy(database_url, source_url=source)
    execute(
        source,
        "UPDATE comfyui_generation_requests SET height = 1216 WHERE id = 1",
        "UPDATE generation_jobs SET comfyui_prompt_id = 'prompt-3' WHERE id = 2",
        "DELETE FROM generation_jobs WHERE id = 5",
    )
    execute(
        database_url,
        "UPDATE generation_jobs SET content_id = 7 WHERE prompt = 'negative'",
    )
    execute(source, "DELETE FROM generation_jobs WHERE id = -3")
    await import_legacy(database_url, source_url=source, cutover=True, report=report)
    rows = query(
        database_url,
        "SELECT source, source_id, job_id < 100, outcome FROM legacy_rows"
        " WHERE source LIKE 'comfy%' ORDER BY source_id",
    )
    assert [row[1:] for row in rows] == [
        (1, True, "combined"),
        (2, False, "imported"),
        (3, True, "combined"),
        (4, False, "imported"),
    ]
    (kept,) = query(database_url, "SELECT params->'legacy' FROM generation_jobs WHERE id = 1")
    assert "request.height" not in kept[0]
    assert query(database_url, "SELECT count(*) FROM generation_jobs") == [(6,)]
    kinds = {(row["kind"], row["id"]) for row in read(report)["rows"] if row["kind"] != "adjusted"}
    assert ("conflict", -3) in kinds
    assert ("removed", 5) in kinds


async def test_undo_removes_what_came_and_nothing_else(
    empty_database_url: str, database_url: str
) -> None:
    former_tables.build(empty_database_url, "B")
    await import_legacy(database_url, source_url=empty_database_url, cutover=True)
    execute(
        database_url,
        "INSERT INTO generation_jobs (prompt) VALUES ('new')",
        "UPDATE generation_jobs SET content_id = 7 WHERE id = 1",
    )
    await import_legacy(database_url, undo=True)
    kept = query(database_url, "SELECT prompt FROM generation_jobs ORDER BY id")
    assert kept == [("a red fox",), ("new",)]
    with pytest.raises(ImportFailedError, match="no import"):
        await import_legacy(database_url, undo=True)


async def test_jobs_of_other_origin_keep_their_ids(
    empty_database_url: str, database_url: str
) -> None:
    former_tables.build(empty_database_url, "C")
    execute(database_url, "INSERT INTO generation_jobs (id, prompt) VALUES (3, 'mine')")
    with pytest.raises(ImportFailedError, match=r"ids of former jobs \(3\)"):
        await import_legacy(database_url, source_url=empty_database_url)
    assert query(database_url, "SELECT id, prompt FROM generation_jobs") == [(3, "mine")]


async def test_what_does_not_arrive_as_it_was_is_removed_again(
    empty_database_url: str, database_url: str, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    former_tables.build(empty_database_url, "B")
    execute(
        database_url,
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.error_message := 'x'; RETURN NEW; END $$",
        "CREATE TRIGGER shout BEFORE INSERT ON generation_jobs"
        " FOR EACH ROW WHEN (NEW.prompt = 'alone') EXECUTE FUNCTION shout()",
    )
    with pytest.raises(ImportFailedError, match="error_message"):
        await import_legacy(database_url, source_url=empty_database_url, report=report)
    assert query(database_url, "SELECT count(*) FROM generation_jobs") == [(0,)]
    told = read(report)
    assert not told["verified"]
    assert "comfyui_generation_requests 3, error_message" in told["problems"][0]


async def test_files_are_taken_from_inside_the_folder_only(
    empty_database_url: str, database_url: str, tmp_path: Path
) -> None:
    root, store, report = tmp_path / "root", tmp_path / "store", tmp_path / "report.json"
    (root / "abs").mkdir(parents=True)
    picture = io.BytesIO()
    Image.new("RGB", (24, 16)).save(picture, "PNG")
    (root / "abs" / "one.png").write_bytes(picture.getvalue())
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "two.png").symlink_to(tmp_path / "secret.png")
    former_tables.build(empty_database_url, "A")
    execute(
        empty_database_url,
        "UPDATE comfyui_generation_requests SET output_paths = '[\"../secret.png\"]' WHERE id = 1",
    )
    await import_legacy(
        database_url,
        source_url=empty_database_url,
        artifacts_root=root,
        artifact_store=store.as_uri(),
        report=report,
    )
    assert read(report)["files"] == {"ingested": 1, "missing": 2, "refused": 2}
    (taken,) = query(
        database_url,
        "SELECT size, encode(sha256, 'hex'), content_type, width, height, external_location,"
        " object_key FROM job_artifacts WHERE sha256 IS NOT NULL",
    )
    digest = hashlib.sha256(picture.getvalue()).hexdigest()
    assert taken[:6] == (len(picture.getvalue()), digest, "image/png", 24, 16, "/abs/one.png")
    assert (store / taken[6]).read_bytes() == picture.getvalue()


async def test_migrate_makes_the_indexes_that_a_killed_import_has_left_out(
    database_url: str,
) -> None:
    before = query(database_url, INDEXES)
    async with connect(database_url) as driver:
        await bulk_load.defer_indexes(driver)
    assert len(query(database_url, INDEXES)) < len(before)
    await process.migrate(Settings(database_url=database_url), print)
    assert query(database_url, INDEXES) == before
