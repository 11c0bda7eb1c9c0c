"""How far one attempt is, as it has last been heard, and what of that is still untold."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import Observers, Phase, PreviewImage, Progress
from comfy_worker.worker.remaining_time import RemainingTime
from comfy_worker.worker.reports import progress_report

_NOTHING_YET: Final = Progress(0.0, Phase.QUEUED, None, None, 0, 0)


class AttemptProgress:
    """Takes the driver's observations; ``on_news`` is called when there is something to tell."""

    def __init__(self, lease: pb.LeaseRef, on_news: Callable[[], None]) -> None:
        self._lease = lease
        self._on_news = on_news
        self._progress = _NOTHING_YET
        self._preview: PreviewImage | None = None
        self._prompt_id = ""
        self._started_at: float | None = None
        self._is_storing = False
        self._is_untold = False
        self._remaining = RemainingTime(None)

    def expect(self, seconds: float | None) -> None:
        """Note, before it begins, how long such a run usually takes, None when unknown."""
        self._remaining = RemainingTime(seconds)

    def observers(self, *, previews: bool) -> Observers:
        """Return what to hand to the driver."""
        return Observers(
            on_accepted=self._accepted,
            on_started=self._started,
            on_progress=self._progressed,
            on_preview=self._previewed if previews else None,
        )

    @property
    def has_started(self) -> bool:
        """Whether ComfyUI executes the prompt, or has."""
        return self._started_at is not None

    @property
    def running_for(self) -> timedelta | None:
        """How long ago ComfyUI began, None before that or when nobody saw it begin."""
        if self._started_at is None:
            return None
        return timedelta(seconds=time.monotonic() - self._started_at)

    def storing(self) -> None:
        """Note that the files are being fetched and stored."""
        self._is_storing = True
        self._tell()

    def take_report(self) -> pb.ProgressReport | None:
        """Return the newest state once, None when there is nothing new to tell."""
        if not self._is_untold:
            return None
        preview, self._preview = self._preview, None
        self._is_untold = False
        return progress_report(
            self._lease,
            self._progress,
            prompt_id=self._prompt_id,
            running_for=self.running_for,
            remaining=self._remaining.at(time.monotonic()),
            storing=self._is_storing,
            preview=preview,
        )

    def report_again(self) -> None:
        """Note that the report taken last did not arrive."""
        self._is_untold = True

    def _accepted(self, prompt_id: str) -> None:
        self._prompt_id = prompt_id
        self._is_storing = False
        self._started_at = None
        self._tell()

    def _started(self) -> None:
        self._started_at = time.monotonic()
        self._remaining.start(self._started_at)
        self._tell()

    def _progressed(self, progress: Progress) -> None:
        self._progress = progress
        self._remaining.observe(time.monotonic(), progress)
        self._tell()

    def _previewed(self, preview: PreviewImage) -> None:
        self._preview = preview
        self._tell()

    def _tell(self) -> None:
        self._is_untold = True
        self._on_news()
