"""Loops that run as long as the service does."""

import asyncio
from collections.abc import Awaitable, Callable

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
