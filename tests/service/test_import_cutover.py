"""The cutover looks only at what has changed, and leaves the tables as the migrations make them."""

from pathlib import Path
from typing import Any, Final

import pytest

from job_service.legacy import command
from job_service.legacy.command import Command
from job_service.legacy.options import Options
from job_service.legacy.session import ImportFailedError
from tests import former_tables
from tests.former_tables import execute, import_legacy, query, read

_JOBS_WRITTEN: Final = (
    "UPDATE generation_jobs SET error_message = 'late' WHERE id = 2",
    "DELETE FROM generation_jobs WHERE id = {matched}",
    (
        "INSERT INTO generation_jobs (id, job_type, prompt, status, created_at)"
        " VALUES (6, 'video', 'late', 'pending', '2024-05-01'),"
        " (8, 'image', 'alone', 'completed', '2024-01-05')"
    ),
)
# One whose job is gone, one that gets a job, one that is part of a job, and a new one.
_REQUESTS_WRITTEN: Final = (
    "UPDATE comfyui_generation_requests SET negative_prompt = 'late' WHERE id = 1",
    (
        "INSERT INTO comfyui_generation_requests"
        " (id, prompt, checkpoint_model, width, height, batch_size, status, created_at,"
        " output_paths) VALUES"
        " (5, 'late', 'sdxl.safetensors', 64, 64, 1, 'completed', '2024-05-01', '[\"5.png\"]')"
    ),
)


def _written(state: str) -> list[str]:
    jobs = [one.format(matched=1 if state == "A" else 5) for one in _JOBS_WRITTEN]
    return [*jobs, *(() if state == "C" else _REQUESTS_WRITTEN)]


@pytest.mark.parametrize("state", ["A", "B", "C"])
async def test_what_is_written_just_before_the_lock_comes_along(
    state: str, empty_database_url: str, tmp_path: Path
) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, state)
    written = iter((_written(state),))

    def say(line: str) -> None:
        if line.startswith("imported"):
            execute(url, *next(written))

    options = Options(url=url, cutover=True, batch=2)
    await command.run(Command(options=options, report=report), say)
    assert not list(written)
    assert read(report)["verified"]
    late = _arrived(url)

    execute(url, "DROP SCHEMA public CASCADE; DROP SCHEMA legacy CASCADE; CREATE SCHEMA public")
    former_tables.build(url, state)
    execute(url, *_written(state))
    await import_legacy(url, cutover=True)
    assert late == _arrived(url)


@pytest.mark.parametrize("steps", [1, 2])
async def test_the_tables_are_as_the_migrations_make_them(
    steps: int, empty_database_url: str, database_url: str
) -> None:
    url = empty_database_url
    former_tables.build(url, "B")
    if steps == 2:
        await import_legacy(url)
    await import_legacy(url, cutover=True)
    assert _definitions(url) == _definitions(database_url)


async def test_an_import_from_elsewhere_leaves_the_tables_as_they_were(
    empty_database_url: str, database_url: str
) -> None:
    former_tables.build(empty_database_url, "B")
    before = _definitions(database_url)
    await import_legacy(database_url, source_url=empty_database_url)
    assert _definitions(database_url) == before


async def test_so_does_one_that_is_interrupted_and_undone(
    empty_database_url: str, database_url: str
) -> None:
    former_tables.build(empty_database_url, "B")
    before = _definitions(database_url)
    while_full: list[Any] = []

    class StoppedError(Exception):
        """What a kill is for everything after it."""

    def say(line: str) -> None:
        if line.startswith("imported"):
            while_full.extend(_definitions(database_url))
            raise StoppedError

    options = Options(url=database_url, source_url=empty_database_url)
    with pytest.raises(StoppedError):
        await command.run(Command(options=options), say)
    assert len(while_full) < len(before)
    await import_legacy(database_url, source_url=empty_database_url, undo=True)
    assert _definitions(database_url) == before


async def test_other_columns_than_were_read_are_not_lost(empty_database_url: str) -> None:
    url = empty_database_url
    former_tables.build(url, "B")

    def say(line: str) -> None:
        if line.startswith("imported"):
            execute(url, "ALTER TABLE generation_jobs ADD COLUMN rating integer DEFAULT 5")

    with pytest.raises(ImportFailedError, match="other columns"):
        await command.run(Command(options=Options(url=url, cutover=True)), say)
    await import_legacy(url, cutover=True)
    (kept,) = query(url, "SELECT params #> '{legacy,rating,value}' FROM generation_jobs WHERE id=2")
    assert kept == (5,)


def _arrived(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """What was imported, without what tells one import from another."""
    return {
        "jobs": query(
            url,
            "SELECT CAST(to_jsonb(job)"
            " - '{id,changed_xid,route_key,virtual_start}'::text[] AS text) AS content"
            " FROM generation_jobs AS job ORDER BY 1",
        ),
        "ids": query(url, "SELECT id FROM generation_jobs WHERE id < 1000 ORDER BY 1"),
        "files": query(
            url,
            "SELECT job.prompt, role, position, external_location"
            " FROM job_artifacts JOIN generation_jobs AS job ON job.id = job_id ORDER BY 1, 2, 3",
        ),
        "rows": query(
            url,
            "SELECT source, source_id, checksum, outcome, adjusted, conflict FROM legacy_rows"
            " ORDER BY 1, 2",
        ),
    }


def _definitions(url: str) -> list[tuple[Any, ...]]:
    return query(
        url,
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE tablename = ANY("
        "'{generation_jobs,job_artifacts,legacy_rows}') AND schemaname = 'public'"
        " UNION ALL SELECT conrelid::regclass::text, conname,"
        " pg_get_constraintdef(oid) || convalidated FROM pg_constraint WHERE conrelid = ANY("
        "CAST('{generation_jobs,job_artifacts,job_attempts}' AS regclass[])) ORDER BY 1, 2, 3",
    )
