"""An observer that remembers what it was told, and waits for what it shall be told."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from comfy_worker.comfyui import Observers, PreviewImage, Progress

T = TypeVar("T")


@dataclass
class Watcher:
    """What a run reported, in order."""

    accepted: list[str] = field(default_factory=list)
    starts: int = 0
    progress: list[Progress] = field(default_factory=list)
    previews: list[PreviewImage] = field(default_factory=list)
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    def observers(self, *, previews: bool = False) -> Observers:
        """The callbacks; without previews none are asked for."""
        return Observers(
            on_accepted=self._remember(self.accepted),
            on_started=self._count_start,
            on_progress=self._remember(self.progress),
            on_preview=self._remember(self.previews) if previews else None,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was reported fulfils ``condition``."""
        while not condition():
            self._told.clear()
            await self._told.wait()

    async def until_accepted(self) -> None:
        """Wait until ComfyUI has the prompt."""
        await self.until(lambda: bool(self.accepted))

    async def until_step(self, step: int) -> None:
        """Wait until the prompt has reported this step of a node, or a later one."""
        await self.until(lambda: bool(self.progress) and self.progress[-1].step >= step)

    async def until_fraction(self, fraction: float) -> None:
        """Wait until the prompt has come so far."""
        await self.until(lambda: bool(self.progress) and self.progress[-1].fraction >= fraction)

    def _remember(self, reports: list[T]) -> Callable[[T], None]:
        def remember(report: T) -> None:
            reports.append(report)
            self._told.set()

        return remember

    def _count_start(self) -> None:
        self.starts += 1
        self._told.set()
