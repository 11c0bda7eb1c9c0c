"""The queue of prompts: lowest number first, one prompt at a time."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

Graph: TypeAlias = dict[str, Any]
"""A prompt in API format: node id → {class_type, inputs}."""

QueueItem: TypeAlias = tuple[float, str, Graph, dict[str, Any], list[str]]
"""(number, prompt id, graph, extra_data, ids of the output nodes to execute): recording 11."""


class PromptQueue:
    """Waiting and running prompts.

    `on_change` is called with every put, get, finish and removal, as ComfyUI broadcasts a
    `status` message for each (recordings 02 and 07a).
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._heap: list[QueueItem] = []
        self._running: QueueItem | None = None
        self._filled = asyncio.Event()

    @property
    def remaining(self) -> int:
        """How many prompts wait or run."""
        return len(self._heap) + (self._running is not None)

    @property
    def running(self) -> list[QueueItem]:
        """The running prompt, as a list of one or none."""
        return [] if self._running is None else [self._running]

    @property
    def pending(self) -> list[QueueItem]:
        """The waiting prompts in heap order: the next one first, the others unsorted."""
        return list(self._heap)

    def put(self, item: QueueItem) -> None:
        """Add a prompt.

        Raises:
            TypeError: A waiting prompt has the same number and the same id. The new one is in
                the queue all the same (recording 04).

        """
        self._filled.set()
        heapq.heappush(self._heap, item)
        self._on_change()

    async def get(self) -> QueueItem:
        """Wait for the next prompt and make it the running one."""
        while not self._heap:
            self._filled.clear()
            await self._filled.wait()
        waiting = list(self._heap)
        try:
            item = heapq.heappop(self._heap)
        except TypeError:  # twins of one number and id cannot be ordered: any order will do
            waiting.sort(key=lambda each: each[:2])
            item, *self._heap = waiting
        self._running = item
        self._on_change()
        return item

    def finish(self) -> None:
        """Take the running prompt out."""
        self._running = None
        self._on_change()

    def delete(self, prompt_id: object) -> bool:
        """Remove the first waiting prompt of this id; tell whether there was one."""
        for index, item in enumerate(self._heap):
            if item[1] == prompt_id:
                del self._heap[index]
                heapq.heapify(self._heap)
                self._on_change()
                return True
        return False

    def clear(self) -> None:
        """Remove every waiting prompt."""
        self._heap.clear()
        self._on_change()
