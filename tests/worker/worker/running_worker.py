"""A comfy_worker on the test's own event loop."""

import asyncio
from contextlib import suppress

from comfy_worker.comfyui import DriverSettings
from comfy_worker.settings import Settings
from comfy_worker.worker.process import work


class RunningWorker:
    """Works from its making on; what it ends with is ``task``'s result."""

    def __init__(self, settings: Settings, driver: DriverSettings | None = None) -> None:
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self.task = asyncio.create_task(work(settings, self._stop, self._hurry, driver))

    def drain(self) -> None:
        """Do what SIGTERM does."""
        self._stop.set()

    async def kill(self) -> None:
        """End it in the middle of whatever it does, telling nobody."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def end(self) -> None:
        """Have it give its jobs back and end, if it has not."""
        self._stop.set()
        self._hurry.set()
        await asyncio.wait([self.task])
