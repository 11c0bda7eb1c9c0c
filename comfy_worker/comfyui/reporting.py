"""Telling an observer what is new about a prompt, and nothing twice."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from comfy_worker.comfyui.events import PreviewImage
from comfy_worker.comfyui.mailbox import Mailbox
from comfy_worker.comfyui.outputs import OutputFile
from comfy_worker.comfyui.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Observers:
    """What to call while a prompt runs: quickly, on the event loop, newest state only.

    ``on_accepted`` gets the id under which ComfyUI has the prompt, once it has it;
    ``on_started`` is called once after that, when ComfyUI begins to execute it, and
    ``on_made`` with files of nodes that are done, while others still run. What the prompt
    has made in the end is said by its outcome.
    """

    on_accepted: Callable[[str], None] | None = None
    on_started: Callable[[], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_preview: Callable[[PreviewImage], None] | None = None
    on_made: Callable[[OutputFile], None] | None = None


class Reporter:
    """Calls the observers of one prompt; previews at most once per ``preview_interval`` seconds."""

    def __init__(self, observers: Observers, preview_interval: float) -> None:
        self._observers = observers
        self._preview_interval = preview_interval
        self._clock = asyncio.get_running_loop().time
        self._start_reported = False
        self._progress: Progress | None = None
        self._last_preview = float("-inf")

    @property
    def wants_previews(self) -> bool:
        """Whether anybody looks at previews."""
        return self._observers.on_preview is not None

    def report_acceptance(self, prompt_id: str) -> None:
        """Report the id under which ComfyUI has the prompt; its start is yet to come."""
        self._start_reported = False
        if self._observers.on_accepted is not None:
            self._observers.on_accepted(prompt_id)

    def report(self, mailbox: Mailbox) -> None:
        """Report the start, the progress and the preview, each only if new."""
        if mailbox.started and not self._start_reported:
            self._start_reported = True
            if self._observers.on_started is not None:
                self._observers.on_started()
        self._report_progress(mailbox.progress)
        made = mailbox.take_made()
        if self._observers.on_made is not None:
            for file in made:
                self._observers.on_made(file)
        now = self._clock()
        if self._observers.on_preview is not None and (
            now - self._last_preview >= self._preview_interval
        ):
            preview = mailbox.take_preview()
            if preview is not None:
                self._last_preview = now
                self._observers.on_preview(preview)

    def report_completion(self, mailbox: Mailbox) -> None:
        """Report what is still new, and that the prompt is done."""
        self.report(mailbox)
        self._report_progress(mailbox.completed_progress)

    def _report_progress(self, progress: Progress) -> None:
        if self._progress is not None and progress.fraction < self._progress.fraction:
            # An adopted prompt was lost and is rendered again; a bar does not go back.
            progress = replace(progress, fraction=self._progress.fraction)
        if progress != self._progress:
            self._progress = progress
            if self._observers.on_progress is not None:
                self._observers.on_progress(progress)
