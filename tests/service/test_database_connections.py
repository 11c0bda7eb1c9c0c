"""The connections to PostgreSQL: lost ones, and ones whose caller went away."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

import pytest

from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.database import Database, statement
from tests.service_fixture import Sql

CONNECTIONS: Final = 4
ONE: Final = statement("SELECT 1 AS one")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool of four, all of them open."""
    opened = Database(database_url, pool_size=CONNECTIONS, acquire_timeout=2)
    await use_all(opened)
    yield opened
    await opened.close()


async def use_all(database: Database) -> None:
    """Run something on every connection of the pool."""
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = await stack.enter_async_context(database.transaction())
            assert (await connection.rows(ONE))[0].one == 1


async def test_one_failure_is_enough_to_replace_every_connection_that_was_lost(
    database: Database, sql: Sql
) -> None:
    ended = await sql.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE application_name = 'job_service' AND datname = current_database()"
    )
    assert await ended.fetchall() == [(True,)] * CONNECTIONS
    with pytest.raises(RefusedError) as refused:
        await database.rows(ONE)
    assert refused.value.refusal is Refusal.DATABASE_UNAVAILABLE
    await use_all(database)


async def test_a_statement_whose_caller_goes_away_is_cancelled_and_keeps_no_connection(
    database: Database,
) -> None:
    for _ in range(2 * CONNECTIONS):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await database.rows(statement("SELECT pg_sleep(60)"))
    await use_all(database)


async def create_half_and_fail(database: Database) -> None:
    """A change, then a statement that takes longer than it may, in one transaction."""
    async with database.transaction() as connection:
        await connection.run(statement("CREATE TABLE half ()"))
        await connection.run(statement("SET LOCAL statement_timeout = 1"))
        await connection.rows(statement("SELECT pg_sleep(60)"))


async def test_what_fails_in_a_transaction_undoes_all_of_it(database: Database, sql: Sql) -> None:
    with pytest.raises(RefusedError) as refused:
        await create_half_and_fail(database)
    assert refused.value.refusal is Refusal.DATABASE_UNAVAILABLE
    assert await (await sql.execute("SELECT to_regclass('half')")).fetchall() == [(None,)]
    await use_all(database)


async def test_a_service_that_stops_at_any_moment_of_a_call_leaves_no_connection_behind(
    database_url: str,
) -> None:
    """After so many turns of the event loop: while it connects, asks, and is answered."""
    with no_connection_left_open():
        for turns in range(40):
            database = Database(database_url, pool_size=1)
            call = asyncio.create_task(database.rows(ONE))
            for _ in range(turns):
                await asyncio.sleep(0 if turns % 2 else 0.0001)
            if turns % 3:
                call.cancel()
            await database.close()
            await asyncio.wait([call])


async def test_closing_waits_for_what_is_under_way_and_refuses_what_comes_later(
    database_url: str,
) -> None:
    with no_connection_left_open():
        database = Database(database_url, pool_size=1)
        under_way, waiting = (
            asyncio.create_task(database.rows(statement("SELECT pg_sleep(0.2), 1 AS one")))
            for _ in range(2)
        )
        await asyncio.sleep(0.1)
        await database.close()
        assert [row.one for row in await under_way] == [1]
        for late in (waiting, asyncio.create_task(database.rows(ONE))):
            with pytest.raises(RefusedError) as refused:
                await late
            assert refused.value.refusal is Refusal.DATABASE_UNAVAILABLE


@contextmanager
def no_connection_left_open() -> Iterator[None]:
    """Fail when a connection that the block has opened was left to the garbage collector."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(one.message) for one in caught] == []
