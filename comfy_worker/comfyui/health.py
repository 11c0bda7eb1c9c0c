"""Whether one ComfyUI can be given prompts: a circuit breaker, and a latch for broken devices."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from comfy_worker.outage import Outage

_FAILURES_TO_OPEN: Final = 2
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0

log: Final = structlog.get_logger(__name__)


class Health:
    """Fed by every HTTP exchange, by the WebSocket, and by how prompts end.

    Two exchanges in a row without an answer open the circuit: a process that is frozen
    takes connections and says nothing, so that each call would cost its whole timeout. While
    it is open, calls fail at once. :meth:`probe` makes the second exchange after a first one
    without an answer, and finds out when ComfyUI answers again.

    ``available`` and ``unavailable`` are set in turn: a ComfyUI is available while its socket
    is open, its circuit closed, and no device fault known. Such a fault (a CUDA error other
    than running out of memory) spoils every later prompt of the process; it counts until the
    socket is opened anew, as after a restart.
    """

    def __init__(self) -> None:
        self.available = asyncio.Event()
        self.unavailable = asyncio.Event()
        self.unavailable.set()
        self._is_connected = False
        self._failures = 0
        self._has_device_fault = False
        self._suspected = asyncio.Event()
        self._silence = Outage(
            log,
            begins="comfyui does not answer, it gets no prompts until it does",
            lasts="comfyui still does not answer",
            ends="comfyui answers again",
        )

    @property
    def is_open(self) -> bool:
        """Whether calls are not worth making."""
        return self._failures >= _FAILURES_TO_OPEN

    def answered(self) -> None:
        """Note that an exchange got an answer, whatever it says."""
        was_open, self._failures = self.is_open, 0
        self._suspected.clear()
        self._silence.over()
        if was_open:
            self._update()

    def unanswered(self, reason: str) -> None:
        """Note that an exchange got no answer."""
        self._failures += 1
        self._suspected.set()
        if self.is_open and self._is_connected:  # else its socket tells that it is gone
            self._silence.failed(reason)
        if self._failures == _FAILURES_TO_OPEN:
            self._update()

    def connected(self) -> None:
        """Note that the WebSocket was opened."""
        self._is_connected = True
        self._has_device_fault = False
        self.answered()
        self._update()

    def disconnected(self) -> None:
        """Note that the WebSocket was closed."""
        self._is_connected = False
        self._update()

    def device_fault(self) -> None:
        """Note that the device failed in a way that only a restart of ComfyUI mends."""
        log.error("comfyui has a device fault, it gets no prompts until it is restarted")
        self._has_device_fault = True
        self._update()

    async def probe(self, ping: Callable[[], Awaitable[None]]) -> None:
        """Call ``ping``, an exchange that feeds this, for ever while an answer is missing."""
        while True:
            await self._suspected.wait()
            pause = _FIRST_PAUSE
            while self._suspected.is_set():
                await ping()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _update(self) -> None:
        if self._is_connected and not self.is_open and not self._has_device_fault:
            self.unavailable.clear()
            self.available.set()
        else:
            self.available.clear()
            self.unavailable.set()
