"""Takes prompts from the queue, one after the other, and sees each to its history entry."""

import asyncio
import logging

from comfy_worker.simulator.execution import PromptRun
from comfy_worker.simulator.history import History
from comfy_worker.simulator.machinery import Machinery
from comfy_worker.simulator.prompt_queue import PromptQueue

logger = logging.getLogger(__name__)


class PromptWorker:
    """The one worker of a simulator.

    Attributes:
        free_requested: Forget all results before the next prompt (`POST /free`).

    """

    def __init__(self, machinery: Machinery, queue: PromptQueue, history: History) -> None:
        self.free_requested = False
        self._machinery = machinery
        self._queue = queue
        self._history = history

    async def work(self) -> None:
        """Work until cancelled."""
        while True:
            item = await self._queue.get()
            if self.free_requested:
                self.free_requested = False
                self._machinery.cache.clear()
            run = PromptRun(self._machinery, item)
            outcome = await run.execute()
            # execution_success is out, the history knows nothing yet (recording 02, trap 1).
            await asyncio.sleep(self._history_delay())
            self._history.put(item, outcome)
            self._queue.finish()
            run.tell_finished()
            success = outcome["status"]["completed"]
            logger.debug("prompt %s ended, success: %s", run.prompt_id, success)
            self._machinery.signals.note_ended(run.prompt_id, success=success)

    def _history_delay(self) -> float:
        delay = self._machinery.faults.history_delay_seconds
        return self._machinery.settings.history_delay_seconds if delay is None else delay
