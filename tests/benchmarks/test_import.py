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

from job_service.legacy.former import REQUESTS
from job_service.store import migrate
from tests.benchmarks.measuring import in_turn, ratio, spread
from tests.benchmarks.report import Report
from tests.legacy_import.filling import Large
from tests.legacy_import.importing import Move
from tests.postgres_fixture import new_database

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

ROWS: Final = Large(jobs=120_000, requests=80_000, merged=30_000)
ROUNDS: Final = 3
LIMIT: Final = 3


async def test_an_import_compared_with_insert_select(
    postgres_server: URL, tmp_path: Path, report: Report
) -> None:
    with new_database(postgres_server) as original:
        with psycopg.connect(_plain(original)) as connection:
            ROWS.build(connection)

        async def in_place() -> float:
            with _copy(postgres_server, original) as old:
                return await asyncio.to_thread(_imported, Move(old, old, tmp_path))

        async def from_another() -> float:
            with _copy(postgres_server, original) as old, new_database(postgres_server) as target:
                move = Move(old, _plain(target), tmp_path)
                return await asyncio.to_thread(_imported, move)

        async def inserted() -> float:
            with _copy(postgres_server, original) as url:
                return await asyncio.to_thread(_inserted, url)

        here, elsewhere, plain = await in_turn(ROUNDS, in_place, from_another, inserted)

    section = "Import of former rows, of INSERT … SELECT of the same rows"
    report.note(
        section,
        f"{ROWS.jobs:,} jobs and {ROWS.requests:,} requests, of which {ROWS.merged:,} had been "
        "merged, on a PostgreSQL that skips fsync. The import is a process from its start to its "
        "end, its verification included.",
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
        yield _plain(url)


def _plain(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _imported(move: Move) -> float:
    began = time.perf_counter()
    move.run("--cutover")
    return time.perf_counter() - began


def _inserted(database: str) -> float:
    """The final table, with its indexes and triggers, filled by one statement for each table."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            f"CREATE SCHEMA former; ALTER TABLE generation_jobs SET SCHEMA former;"
            f"ALTER TABLE {REQUESTS} SET SCHEMA former".encode()
        )
        migrate.upgrade(database.replace("postgresql://", "postgresql+psycopg://", 1))
        began = time.perf_counter()
        connection.execute(_JOBS)
        connection.execute(_REQUESTS.format(merged=ROWS.merged).encode())
        return time.perf_counter() - began


_ERROR: Final = """
    CASE WHEN status = 'failed' THEN jsonb_build_object('code', 'ERROR_CODE_LEGACY', 'message',
        error_message) END, error_message
"""
_JOBS: Final = f"""
INSERT INTO generation_jobs (
    id, user_id, job_type, prompt, params, status, created_at, updated_at, started_at,
    completed_at, error, error_message
)
SELECT id, user_id, split_part(job_type, '_', 1), prompt, parameters, status,
    created_at AT TIME ZONE 'UTC', updated_at AT TIME ZONE 'UTC', started_at AT TIME ZONE 'UTC',
    completed_at AT TIME ZONE 'UTC', {_ERROR}
FROM former.generation_jobs
""".encode()
_REQUESTS: Final = f"""
INSERT INTO generation_jobs (
    id, user_id, prompt, negative_prompt, checkpoint_model, lora_models, width, height,
    batch_size, params, comfyui_prompt_id, legacy_request_id, status, created_at, updated_at,
    started_at, completed_at, error, error_message
)
SELECT 1000000 + id, user_id, prompt, negative_prompt, checkpoint_model, lora_models, width, height,
    batch_size, jsonb_build_object('sampler_params', sampler_params), comfyui_prompt_id, id, status,
    created_at AT TIME ZONE 'UTC', updated_at AT TIME ZONE 'UTC', started_at AT TIME ZONE 'UTC',
    completed_at AT TIME ZONE 'UTC', {_ERROR}
FROM former.{REQUESTS} WHERE id > {{merged}}
"""
