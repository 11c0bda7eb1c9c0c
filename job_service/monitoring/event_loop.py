"""How late the event loop is: what blocks it delays every call."""

import asyncio
from collections.abc import Callable
from typing import Final

_INTERVAL: Final = 1.0


async def watch_lag(heard: Callable[[float], None]) -> None:
    """Tell once a second, for ever, by how many seconds a timer came too late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _INTERVAL
        await asyncio.sleep(_INTERVAL)
        heard(max(0.0, loop.time() - due))
