"""Brings previews from the replica they are reported to, to those where they are watched."""

import asyncio
from collections.abc import Hashable
from itertools import islice
from typing import Final

import structlog

from job_service.events.hub import Hub, JobPreviewed, PreviewStored
from job_service.events.progress_board import ProgressBoard
from job_service.jobs.refusals import RefusedError
from job_service.store.previews import PreviewTable

#: Seconds between two frames of one job at least.
_FRAME_PAUSE: Final = 0.5
#: Frames of one statement; each may have 256 KiB.
_AT_ONCE: Final = 16
#: Seconds after which it goes on when a statement has failed. The frames of that one are lost.
_AFTER_FAILURE: Final = 1.0
#: Jobs whose frames wait. Beyond, frames are left out: each is soon followed by another.
_MOST_WAITING: Final = 1_000

_log = structlog.get_logger()


class PreviewExchange:
    """Writes frames that are watched elsewhere, and reads those that are watched here."""

    def __init__(self, hub: Hub, board: ProgressBoard, table: PreviewTable) -> None:
        self._hub = hub
        self._board = board
        self._table = table
        self._to_write: dict[int, None] = {}
        self._to_read: dict[int, None] = {}
        self._next_at: dict[int, float] = {}
        self._something = asyncio.Event()

    def hand_over(self, job_id: int) -> None:
        """Have the latest frame of a job brought to other replicas."""
        self._note(self._to_write, job_id)

    def heard(self, topic: Hashable) -> None:
        """Fetch the frame that another replica has stored, if it is watched here."""
        if isinstance(topic, PreviewStored) and self._hub.is_awaited(JobPreviewed(topic.job_id)):
            self._note(self._to_read, topic.job_id)

    async def run(self) -> None:
        """Bring frames for ever."""
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                while await self._write() or await self._read():
                    pass
            except RefusedError as error:
                _log.warning("a preview was lost", error=str(error))
                await asyncio.sleep(_AFTER_FAILURE)

    def _note(self, waiting: dict[int, None], job_id: int) -> None:
        if len(waiting) < _MOST_WAITING:
            waiting[job_id] = None
            self._something.set()

    async def _write(self) -> bool:
        """Write frames that are due; whether there were any."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._next_at = {job_id: at for job_id, at in self._next_at.items() if now < at}
        due = list(islice((one for one in self._to_write if one not in self._next_at), _AT_ONCE))
        if not due:
            if self._to_write:
                loop.call_at(min(self._next_at.values()), self._something.set)
            return False
        for job_id in due:
            del self._to_write[job_id]
            self._next_at[job_id] = now + _FRAME_PAUSE
        frames = [frame for one in due if (frame := self._board.latest_preview(one)) is not None]
        if frames:
            await self._table.write(frames)
            self._hub.publish(*(PreviewStored(frame.job_id) for frame in frames))
        return True

    async def _read(self) -> bool:
        """Read frames that were announced; whether there were any."""
        announced = list(islice(self._to_read, _AT_ONCE))
        for job_id in announced:
            del self._to_read[job_id]
        if announced:
            for frame in await self._table.read(announced):
                self._board.forwarded_preview(frame)
        return bool(announced)
