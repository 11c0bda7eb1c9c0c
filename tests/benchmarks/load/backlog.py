"""How many jobs are under way, and how many were done in the measured time."""

import asyncio
import time
from typing import Final

#: Jobs that are created and not done, at most: enough that nobody waits for work.
MOST_UNDER_WAY: Final = 512
#: Seconds after which measuring begins: connections are open and statements prepared by then.
WARM_UP: Final = 1.0


class Backlog:
    """Lets clients create jobs for ``seconds`` and counts those that get done meanwhile."""

    def __init__(self, seconds: float) -> None:
        self._began = time.perf_counter()
        self._until = self._began + WARM_UP + seconds
        self._seconds = seconds
        self._under_way = 0
        self._counted = 0
        self._room = asyncio.Condition()

    async def room_for(self, jobs: int = 1) -> bool:
        """Wait until there is room for more jobs; False: the time is over."""
        async with self._room:
            await self._room.wait_for(lambda: self._under_way + jobs <= MOST_UNDER_WAY)
            if time.perf_counter() >= self._until:
                return False
            self._under_way += jobs
            return True

    async def done(self, jobs: int = 1) -> None:
        """Count jobs that have just been done."""
        if self._began + WARM_UP <= time.perf_counter() < self._until:
            self._counted += jobs
        async with self._room:
            self._under_way -= jobs
            self._room.notify_all()

    async def drained(self) -> dict[str, float]:
        """Wait until every job is done; what was measured."""
        async with asyncio.timeout(60), self._room:
            await self._room.wait_for(lambda: self._under_way == 0)
        return {"a_second": self._counted / self._seconds}
