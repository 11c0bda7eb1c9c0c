"""Joined: calls that arrive together share a statement, but not each other's fate."""

import asyncio
from collections.abc import Sequence

import pytest
from psycopg.errors import IntegrityError

from job_service.store.joined import Joined


class Table:
    """Stands where the database does: notes each statement, can be held, refuses ``bad``."""

    def __init__(self, *, bad: Sequence[int] = ()) -> None:
        self.statements: list[list[int]] = []
        self.bad = set(bad)
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()

    async def run(self, requests: Sequence[int]) -> Sequence[int | Exception]:
        self.statements.append(list(requests))
        self.arrived.set()
        await self.open.wait()
        if self.bad.intersection(requests):
            raise IntegrityError("violates a constraint")
        return [request * 10 for request in requests]


async def _behind_a_held_statement(
    table: Table, joined: Joined[int, int], requests: Sequence[int]
) -> list[asyncio.Task[int]]:
    """Calls for ``requests``, gathered while a statement for request 0 is held."""
    table.open.clear()
    first = asyncio.create_task(joined(0))
    await table.arrived.wait()
    tasks = [asyncio.create_task(joined(request)) for request in requests]
    await asyncio.sleep(0)  # each has run up to its wait
    return [first, *tasks]


async def test_a_call_that_finds_none_under_way_runs_at_once_alone() -> None:
    table = Table()
    joined = Joined(table.run)
    assert await joined(1) == 10
    assert await joined(2) == 20
    assert table.statements == [[1], [2]]


async def test_calls_that_arrive_meanwhile_share_the_next_statement() -> None:
    table = Table()
    tasks = await _behind_a_held_statement(table, Joined(table.run), range(1, 6))
    table.open.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40, 50]
    assert table.statements == [[0], [1, 2, 3, 4, 5]]


async def test_a_statement_takes_no_more_than_most() -> None:
    table = Table()
    tasks = await _behind_a_held_statement(table, Joined(table.run, most=2), range(1, 6))
    table.open.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40, 50]
    assert table.statements == [[0], [1, 2], [3, 4], [5]]


async def test_as_many_statements_as_allowed_run_at_once() -> None:
    table = Table()
    table.open.clear()
    joined = Joined(table.run, most=1, concurrent=2)
    tasks = [asyncio.create_task(joined(request)) for request in range(4)]
    await table.arrived.wait()
    await asyncio.sleep(0)  # the other statement begins in the same turn
    assert table.statements == [[0], [1]]
    table.open.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30]
    assert table.statements == [[0], [1], [2], [3]]


async def test_calls_of_the_same_turn_go_together() -> None:
    table = Table()
    joined = Joined(table.run)
    assert await asyncio.gather(*(joined(request) for request in range(3))) == [0, 10, 20]
    assert table.statements == [[0, 1, 2]]


async def test_only_the_bad_ones_fail_when_a_statement_is_refused() -> None:
    table = Table(bad=[2, 4])
    tasks = await _behind_a_held_statement(table, Joined(table.run), range(1, 6))
    table.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [answers[n] for n in (0, 1, 3, 5)] == [0, 10, 30, 50]
    assert all(isinstance(answers[n], IntegrityError) for n in (2, 4))
    assert table.statements == [[0], [1, 2, 3, 4, 5], [1], [2], [3], [4], [5]]


async def test_a_result_may_be_an_exception_of_its_own_caller() -> None:
    async def run(requests: Sequence[int]) -> Sequence[int | Exception]:
        return [ValueError("odd") if request % 2 else request for request in requests]

    joined = Joined(run)
    answers = await asyncio.gather(*(joined(n) for n in range(4)), return_exceptions=True)
    assert answers[0::2] == [0, 2]
    assert all(isinstance(answer, ValueError) for answer in answers[1::2])


async def test_an_outage_reaches_everyone_in_the_statement_and_nobody_after() -> None:
    broken = True

    async def run(requests: Sequence[int]) -> Sequence[int | Exception]:
        if broken:
            raise ConnectionError("gone")
        return list(requests)

    joined = Joined(run)
    answers = await asyncio.gather(*(joined(n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(answer, ConnectionError) for answer in answers)
    broken = False
    assert await joined(7) == 7


async def test_a_caller_that_goes_away_takes_nobody_along_and_is_served_all_the_same() -> None:
    table = Table()
    tasks = await _behind_a_held_statement(table, Joined(table.run), [1, 2, 3])
    tasks[2].cancel()
    table.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [answers[n] for n in (0, 1, 3)] == [0, 10, 30]
    assert isinstance(answers[2], asyncio.CancelledError)
    assert table.statements == [[0], [1, 2, 3]]


async def test_the_first_caller_going_away_does_not_stop_the_statement_under_way() -> None:
    table = Table()
    first, second = await _behind_a_held_statement(table, Joined(table.run), [1])
    first.cancel()
    table.open.set()
    assert await second == 10
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_bad_request_whose_caller_has_gone_troubles_nobody() -> None:
    table = Table(bad=[1])
    tasks = await _behind_a_held_statement(table, Joined(table.run), [1, 2])
    tasks[1].cancel()
    table.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[0] == 0
    assert answers[2] == 20
