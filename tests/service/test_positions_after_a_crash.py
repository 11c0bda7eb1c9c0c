"""A watch that goes on after PostgreSQL has crashed misses nothing.

The numbers of transactions that were lost are given again.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from job_service.embedded_postgres import EmbeddedPostgres
from job_service.store.changes import ChangeStore, Position
from job_service.store.database import Database
from tests.crashing_postgres import connected, until_it_crashes

#: Changes that were not brought to the disk.
LOST = 10


async def of_now(store: ChangeStore) -> Position:
    return await store.position()


async def of_the_last_page(store: ChangeStore) -> Position:
    pages = [page async for page in store.since(Position.before(1))]
    assert {change.job_id for page in pages for change in page.changes} == {1, 2}
    assert not pages[0].is_kept
    return await store.keep(pages[0])


@pytest.mark.parametrize("told", [of_now, of_the_last_page])
async def test_changes_under_numbers_given_again_are_found(
    told: Callable[[ChangeStore], Awaitable[Position]], tmp_path: Path
) -> None:
    async with until_it_crashes(tmp_path) as url:
        async with await connected(url) as application:
            await application.execute(
                "INSERT INTO generation_jobs (prompt, checkpoint_model)"
                " VALUES ('a fox', 'sdxl'), ('a hare', 'sdxl')"
            )
            await application.execute("SET synchronous_commit = off")
            await change(application, 2, times=LOST)
        database = Database(url)
        position = await told(ChangeStore(database))
    await database.close()

    async with EmbeddedPostgres(tmp_path) as postgres, await connected(postgres.url) as application:
        await change(application, 1)
        await change(application, 2, times=2 * LOST)
        database = Database(postgres.url)
        pages = [page async for page in ChangeStore(database).since(position)]
        await database.close()
    assert {change.job_id for page in pages for change in page.changes} == {1, 2}


async def change(application: psycopg.AsyncConnection, job_id: int, times: int = 1) -> None:
    for _ in range(times):
        await application.execute(
            "UPDATE generation_jobs SET priority = priority + 1 WHERE id = %s", [job_id]
        )
