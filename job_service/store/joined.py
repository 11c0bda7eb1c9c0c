"""Joined statements: calls that arrive together share a round trip, but not each other's fate."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from psycopg.errors import DataError, IntegrityError

Request = TypeVar("Request")
Result = TypeVar("Result")


class Joined(Generic[Request, Result]):
    """Runs ``run`` over everything that has gathered since the statement before.

    There is no timer: a call that finds no statement under way goes at once, with those that came
    in the same turn of the event loop. While one is under way, others gather and go together when
    it is done. When a statement is refused for its data, its calls are redone one by one, so that
    only the bad one fails.

    ``run`` answers one result or exception for each request, in order.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Request]], Awaitable[Sequence[Result | Exception]]],
        *,
        most: int = 256,
        concurrent: int = 1,
    ) -> None:
        self._run = run
        self._most = most
        self._concurrent = concurrent
        self._gathered: deque[tuple[Request, asyncio.Future[Result]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def __call__(self, request: Request) -> Result:
        """The result for one request; raises what ``run`` answered or raised for it."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._gathered.append((request, future))
        self._start()
        return await future

    def _start(self) -> None:
        if len(self._under_way) < self._concurrent:
            task = asyncio.create_task(self._serve_gathered())
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._gathered:
            self._start()

    async def _serve_gathered(self) -> None:
        # Begins in the next turn of the event loop: answers that went out together bring the next
        # requests in together.
        while self._gathered:
            count = min(len(self._gathered), self._most)
            await self._serve([self._gathered.popleft() for _ in range(count)])

    async def _serve(self, calls: Sequence[tuple[Request, asyncio.Future[Result]]]) -> None:
        # The caller may have gone away while it waited; its request is stored all the same, since
        # it cannot know that it was not.
        try:
            results = await self._run([request for request, _ in calls])
        except (DataError, IntegrityError) as error:
            if len(calls) == 1:
                _settle(calls[0][1], error)
                return
            for call in calls:
                await self._serve([call])
            return
        except BaseException as error:
            for _, future in calls:
                _settle(future, error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(calls, results, strict=True):
            _settle(future, result)


def _settle(future: "asyncio.Future[Result]", result: Result | BaseException) -> None:
    if future.done():
        return
    if isinstance(result, asyncio.CancelledError):
        future.cancel()
    elif isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
