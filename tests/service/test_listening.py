"""The connection that listens."""

import asyncio
import gc
import warnings

import pytest

from job_service.store.database import Database
from job_service.store.notifications import ListeningFailedError, listening, notify
from tests.service_fixture import Sql


async def test_it_hears_what_is_notified_in_order(database_url: str) -> None:
    database = Database(database_url, pool_size=2)
    try:
        async with listening(database_url) as listener:
            await notify(database, ["first", "second"])
            await notify(database, ["third"])
            heard: list[str] = []
            while len(heard) < 3:
                arrived = await listener.heard(20)
                assert arrived
                heard += arrived
    finally:
        await database.close()
    assert heard == ["first", "second", "third"]


async def test_silence_ends(database_url: str) -> None:
    async with listening(database_url) as listener:
        assert await listener.heard(0.05) == []


async def test_a_server_that_is_not_there_is_said(database_url: str) -> None:
    with pytest.raises(ListeningFailedError):
        async with listening("postgresql://postgres@127.0.0.1:1/nothing"):
            pass


async def test_being_given_up_at_any_moment_leaves_no_connection_behind(database_url: str) -> None:
    """Cancelled after so many turns of the event loop: while it connects, and while it listens."""

    async def listen() -> None:
        async with listening(database_url) as listener:
            await listener.heard(20)

    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for turns in range(80):
            task = asyncio.create_task(listen())
            for _ in range(turns):
                await asyncio.sleep(0 if turns % 2 else 0.0002)
            task.cancel()
            await asyncio.wait([task])
        del task
        gc.collect()
    assert [str(one.message) for one in caught] == []


async def test_a_connection_that_the_server_ends_is_said(database_url: str, sql: Sql) -> None:
    async with listening(database_url) as listener:
        hearing = asyncio.create_task(listener.heard(30))
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'job_service listener' AND datname = current_database()"
        )
        with pytest.raises(ListeningFailedError):
            await hearing
