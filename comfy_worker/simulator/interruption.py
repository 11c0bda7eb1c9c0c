"""The one interrupt flag of a server."""

import asyncio

from comfy_worker.simulator.nodes.context import PromptInterrupted


class Interruption:
    """Set by `POST /interrupt`, cleared when a run begins or has been stopped (recording 07c)."""

    def __init__(self) -> None:
        self._requested = asyncio.Event()

    def request(self) -> None:
        """Ask for the running prompt to stop."""
        self._requested.set()

    def clear(self) -> None:
        """Forget a request."""
        self._requested.clear()

    def check(self) -> None:
        """Stop the run if that was asked for.

        Raises:
            PromptInterrupted: It was.

        """
        if self._requested.is_set():
            self._requested.clear()
            raise PromptInterrupted

    async def wait(self) -> None:
        """Wait for a request."""
        await self._requested.wait()
