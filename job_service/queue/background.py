"""Loops that run as long as the service does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

_log = structlog.get_logger()


async def run_for_ever(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop until it returns; one that dies of a bug is logged and started again soon."""
    while True:
        try:
            await loop()
        except Exception:  # noqa: BLE001  # whatever the bug is, the loop goes on
            _log.exception("background loop died", loop=name)
            await asyncio.sleep(1)
        else:
            return


@asynccontextmanager
async def running_loops(loops: Mapping[str, Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Run these loops while the block is open."""
    tasks = [asyncio.create_task(run_for_ever(name, loop)) for name, loop in loops.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
