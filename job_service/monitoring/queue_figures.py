"""The state of the queue for metrics, read when it is asked for, and not too often."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from job_service.api.queue_report import QueueState
from job_service.jobs.refusals import RefusedError


class QueueFigures:
    """What ``read`` has said, at most ``interval`` ago; none while it fails."""

    def __init__(self, read: Callable[[], Awaitable[QueueState]], interval: timedelta) -> None:
        self._read = read
        self._interval = interval.total_seconds()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        #: None: it could not be read
        self.state: QueueState | None = None

    async def refresh(self) -> None:
        """Read again if it is time. Those who ask at once share one reading."""
        async with self._reading:
            if time.monotonic() - self._read_at < self._interval:
                return
            try:
                self.state = await self._read()
            except RefusedError:  # the database's own metric says why
                self.state = None
            self._read_at = time.monotonic()
