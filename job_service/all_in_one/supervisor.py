"""Runs children for the length of some work; when one of them ends by itself, all end."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from job_service.all_in_one.child import Child
from job_service.cannot_run import CannotRunError

Result = TypeVar("Result")


class Supervisor:
    """Starts children and stops them, the last one first, when its context closes.

    SIGINT, SIGTERM and SIGHUP end the work; a second one ends the children at once.
    """

    def __init__(self, log_directory: Path, echo: Callable[[str, str], None] | None = None) -> None:
        self._log_directory = log_directory
        self._echo = echo
        self._children: list[Child] = []
        self._needed: set[Child] = set()
        self._stops = AsyncExitStack()
        self._interrupted = asyncio.Event()
        self._failed: asyncio.Future[Child] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        """Take over the signals."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop every child."""
        await self._stops.aclose()

    async def start(
        self, name: str, command: list[str], environment: Mapping[str, str], *, stop_seconds: float
    ) -> Child:
        """Start a child; it gets ``stop_seconds`` to end when its time has come."""
        log_file = self._log_directory / f"{name}.log"
        child = await Child.start(name, command, environment, log_file, self._echo)
        self._children.append(child)
        self._needed.add(child)
        self._stops.push_async_callback(self._stop, child, stop_seconds)
        child.ended.add_done_callback(lambda _: self._missed(child))
        return child

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """Do the work; answers ``None`` when a signal came first.

        Raises:
            CannotRunError: a child ended by itself; the message shows its last lines.
        """
        working = asyncio.ensure_future(work)
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait(
                (working, interrupted, self._failed), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            unfinished = [task for task in (working, interrupted) if task.cancel()]
            await asyncio.gather(*unfinished, return_exceptions=True)
        if self._failed.done():
            raise CannotRunError(self._failed.result().failure())
        return None if working.cancelled() else working.result()

    async def _stop(self, child: Child, seconds: float) -> None:
        self._needed.discard(child)
        await child.stop(seconds)

    def _missed(self, child: Child) -> None:
        if child in self._needed and not self._failed.done():
            self._failed.set_result(child)

    def _interrupt(self) -> None:
        if self._interrupted.is_set():
            for child in self._children:
                child.kill()
        self._interrupted.set()
