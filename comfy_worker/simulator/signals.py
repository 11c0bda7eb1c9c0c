"""What a test may know about a running simulator, and how it waits without sleeping."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

REMEMBERED_PROMPTS = 20_000


class Signals:
    """Counts per prompt id, and level-triggered waits on them.

    Every wait returns at once when what it waits for has already happened; give it a timeout
    with `asyncio.timeout`. Counts of the newest 20,000 prompt ids are kept.

    Attributes:
        queued: How often each prompt id was put into the queue.
        started: How often its run began.
        rendered: How often a run of it really executed a node; a run answered from the cache
            alone does not count.
        completed: How often a run of it succeeded.
        ended: How often it reached the history, however it ended.
        steps: The last step its latest run reported.
        interrupts: How many `POST /interrupt` arrived, and cancels of a job that runs.

    """

    def __init__(self) -> None:
        self.queued: Counter[str] = Counter()
        self.started: Counter[str] = Counter()
        self.rendered: Counter[str] = Counter()
        self.completed: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.steps: dict[str, int] = {}
        self.interrupts = 0
        self.sockets = 0
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is asked again whenever a count changes."""
        if condition():
            return
        waiter = asyncio.get_running_loop().create_future()
        entry = (condition, waiter)
        self._waiters.append(entry)
        try:
            await waiter
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)

    async def prompt_queued(self, prompt_id: str, *, times: int = 1) -> None:
        """Wait until the prompt was queued so many times."""
        await self.wait_until(lambda: self.queued[prompt_id] >= times)

    async def prompt_started(self, prompt_id: str, *, times: int = 1) -> None:
        """Wait until so many runs of the prompt began."""
        await self.wait_until(lambda: self.started[prompt_id] >= times)

    async def step_reached(self, prompt_id: str, step: int) -> None:
        """Wait until the prompt's latest run has reported `step` or a later one."""
        await self.wait_until(lambda: self.steps.get(prompt_id, 0) >= step)

    async def prompt_ended(self, prompt_id: str, *, times: int = 1) -> None:
        """Wait until the prompt stands in the history for the n-th time."""
        await self.wait_until(lambda: self.ended[prompt_id] >= times)

    async def interrupt_received(self, *, times: int = 1) -> None:
        """Wait until so many of :attr:`interrupts` arrived since the simulator's start."""
        await self.wait_until(lambda: self.interrupts >= times)

    async def sockets_connected(self, count: int) -> None:
        """Wait until exactly so many client ids are connected."""
        await self.wait_until(lambda: self.sockets == count)

    def note_queued(self, prompt_id: str) -> None:
        """Record that a prompt was put into the queue."""
        self.queued[prompt_id] += 1
        if len(self.queued) > REMEMBERED_PROMPTS:
            self._forget(next(iter(self.queued)))
        self._wake()

    def note_started(self, prompt_id: str) -> None:
        """Record that a run began."""
        self.started[prompt_id] += 1
        self.steps[prompt_id] = 0
        self._wake()

    def note_rendered(self, prompt_id: str) -> None:
        """Record that a run executes its first node that was not cached."""
        self.rendered[prompt_id] += 1
        self._wake()

    def note_step(self, prompt_id: str, step: int) -> None:
        """Record a reported step."""
        self.steps[prompt_id] = step
        self._wake()

    def note_ended(self, prompt_id: str, *, success: bool) -> None:
        """Record that the history has the outcome of a run."""
        self.completed[prompt_id] += success
        self.ended[prompt_id] += 1
        self._wake()

    def note_interrupt(self) -> None:
        """Record a `POST /interrupt`, or a cancel of the job that runs."""
        self.interrupts += 1
        self._wake()

    def note_sockets(self, count: int) -> None:
        """Record how many client ids are connected."""
        self.sockets = count
        self._wake()

    def snapshot(self) -> dict[str, Any]:
        """Return all counts as JSON, for tests of a simulator in another process."""
        return {
            "prompts": {
                prompt_id: {
                    "queued": self.queued[prompt_id],
                    "started": self.started[prompt_id],
                    "rendered": self.rendered[prompt_id],
                    "completed": self.completed[prompt_id],
                    "ended": self.ended[prompt_id],
                    "step": self.steps.get(prompt_id, 0),
                }
                for prompt_id in self.queued
            },
            "interrupts": self.interrupts,
            "sockets": self.sockets,
        }

    def _forget(self, prompt_id: str) -> None:
        for counts in (self.queued, self.started, self.rendered, self.completed, self.ended):
            del counts[prompt_id]
        self.steps.pop(prompt_id, None)

    def _wake(self) -> None:
        for condition, waiter in list(self._waiters):
            if not waiter.done() and condition():
                waiter.set_result(None)
