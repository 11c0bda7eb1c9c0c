"""The application goes on writing until the cutover, which picks up what it wrote meanwhile."""

from collections.abc import Mapping
from typing import Final

import psycopg
import pytest

from tests.legacy_import.conftest import Settle
from tests.legacy_import.old_content import Connection, Row, Stored, stored
from tests.legacy_import.oracle import nothing_is_lost
from tests.legacy_import.reading import reading
from tests.legacy_import.samples import SHAPES, sample

pytestmark = pytest.mark.former


@pytest.mark.parametrize(
    "name",
    [
        "A",
        pytest.param("B", marks=pytest.mark.heavy),
        "C",
        "both column sets",
        "C with requests",
    ],
)
async def test_rows_written_between_import_and_cutover(name: str, settle: Settle) -> None:
    content = sample(SHAPES[name])
    move = settle(content)
    with psycopg.connect(move.old, autocommit=True) as application:
        first = move.run()
        assert first.report is not None
        assert first.report["phase"] == "importing"
        _go_on(application, requests=content.shape.has_requests)
        move.run()
        _go_on(application, requests=content.shape.has_requests, again=True)
        old = stored(application)
        last = move.run("--cutover")
        assert last.report is not None
        assert last.report["phase"] == "cut over"

    new = await reading(move.target, move.folder, list(old.requests))
    nothing_is_lost(old, new)


@pytest.mark.parametrize("settle", ["from"], indirect=True)
async def test_before_the_cutover_only_jobs_at_rest_are_there(settle: Settle) -> None:
    move = settle(sample(SHAPES["B"]))
    with psycopg.connect(move.old) as connection:
        old = stored(connection)
    move.run()
    new = await reading(move.target, move.folder, list(old.requests))
    resting = Stored(_resting(old.jobs), _resting(old.requests))
    waiting = old.jobs.keys() - resting.jobs.keys()
    assert waiting
    assert not waiting & new.jobs.keys()
    nothing_is_lost(resting, new)


#: Of a word that nobody knows nothing more can be expected, either.
_NOT_AT_REST: Final = ("pending", "running", "processing", "started", None)


def _resting(rows: Mapping[int, Row]) -> Mapping[int, Row]:
    return {key: row for key, row in rows.items() if row["status"] not in _NOT_AT_REST}


#: What the application's code and its people do: insert, finish, change, delete.
_JOBS_WRITTEN: Final = """
INSERT INTO generation_jobs (id, user_id, job_type, prompt, status, created_at, updated_at)
    SELECT {new} + n, user_id, 'image', 'written meanwhile ' || n, status, created_at, now()
    FROM generation_jobs AS one, generate_series(1, 3) AS n WHERE one.id = 3;
UPDATE generation_jobs SET status = 'completed', completed_at = '2025-01-01',
    updated_at = '2025-01-01' WHERE id = {finished};
UPDATE generation_jobs SET error_message = 'changed by hand {new}' WHERE id = 4;
DELETE FROM generation_jobs WHERE id = {deleted};
"""
_REQUESTS_WRITTEN: Final = """
INSERT INTO comfyui_generation_requests (
    id, user_id, prompt, checkpoint_model, width, height, batch_size, status, created_at,
    updated_at, output_paths
) VALUES (
    {new}, NULL, 'asked meanwhile', 'sdxl.safetensors', 512, 512, 1, 'completed', '2025-01-01',
    '2025-01-01', '["m.png"]'
);
UPDATE comfyui_generation_requests SET negative_prompt = 'changed {new}' WHERE id = 4;
UPDATE comfyui_generation_requests SET status = 'completed', completed_at = now() WHERE id = 5;
DELETE FROM comfyui_generation_requests WHERE id = {deleted_request};
"""


def _go_on(application: Connection, *, requests: bool, again: bool = False) -> None:
    written = _JOBS_WRITTEN + (_REQUESTS_WRITTEN if requests else "")
    # the first job that goes is one that a request was merged into
    ids = (
        {"new": 950, "finished": 101, "deleted": 112, "deleted_request": 8}
        if again
        else {"new": 900, "finished": 6, "deleted": 105, "deleted_request": 7}
    )
    application.execute(written.format(**ids).encode())
