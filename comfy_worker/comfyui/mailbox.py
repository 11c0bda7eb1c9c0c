"""What the WebSocket last said about one prompt: newest state only, never a backlog."""

import asyncio
from typing import Final

from comfy_worker.comfyui.events import (
    Event,
    Executed,
    Executing,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    PreviewImage,
)
from comfy_worker.comfyui.outputs import OutputFile
from comfy_worker.comfyui.progress import Phase, Progress, ProgressTracker
from comfy_worker.comfyui.sent_pictures import SentPictures

_MOST_MADE: Final = 64
"""Files told of that nobody has taken."""


class Mailbox:
    """Filled by the session's reader without ever blocking it, emptied by one consumer.

    Progress is folded, of previews only the newest is kept, so that memory is bounded
    however fast ComfyUI sends and however slow the consumer is.

    ``hears_events``: whether the prompt's events come to the socket that is open now
    (recording 08b: they go only to the client id the prompt was sent with).
    """

    def __init__(self, tracker: ProgressTracker, sent: SentPictures) -> None:
        self._tracker = tracker
        self.sent = sent
        self._wake = asyncio.Event()
        self._preview: PreviewImage | None = None
        self._made: list[OutputFile] = []
        self.hears_events = False
        self.connection_was_lost = False
        self.started = False
        self.ending = False
        """A final event came; the history may still lack the entry (recording 13)."""
        self.over = False
        """The last event of the run came; the history has the entry."""
        self.worth_a_look = False
        """Something happened that only the queue and the history can explain."""

    @property
    def progress(self) -> Progress:
        """The newest progress."""
        return self._tracker.current

    @property
    def completed_progress(self) -> Progress:
        """The progress once the history has confirmed the result."""
        return self._tracker.complete()

    def is_amid_steps(self) -> bool:
        """Whether, as last heard, the prompt samples and has more than one step ahead."""
        progress = self._tracker.current
        return (
            self.hears_events
            and not self.ending
            and progress.phase is Phase.SAMPLING
            and progress.steps - progress.step > 1
        )

    def deliver(self, event: Event) -> None:
        """Take in an event of this prompt."""
        match event:
            case PreviewImage():
                if not self.sent.take(event, self._tracker.current.node_id):
                    self._preview = event
            case ExecutionStart():
                self.started = True
            case Executed(files=files):
                self._made += files[: _MOST_MADE - len(self._made)]
            case ExecutionSuccess() | ExecutionError() | ExecutionInterrupted():
                self.ending = True
                self.sent.all_heard |= self.hears_events
            case Executing(prompt_id=str(), node_id=None):
                self.over = True
                self.sent.all_heard |= self.hears_events
            case _:
                self.started = True
        self._tracker.observe(event)
        self._wake.set()

    def note_start(self, prompt_id: str) -> None:
        """Note what the consumer found out by itself: the prompt is being executed."""
        self.started = True
        self._tracker.observe(ExecutionStart(prompt_id))

    def queue_changed(self) -> None:
        """Note that the queue's length changed: the only news about prompts not heard."""
        if not self.hears_events:
            self.wake_to_look()

    def connection_changed(self) -> None:
        """Note that the socket was lost or opened anew: what happened meanwhile was missed."""
        self.hears_events = False
        self.connection_was_lost = True
        self.wake_to_look()

    def wake_to_look(self) -> None:
        """Have the consumer look at the queue and the history."""
        self.worth_a_look = True
        self._wake.set()

    def take_preview(self) -> PreviewImage | None:
        """Hand out the newest preview once."""
        preview, self._preview = self._preview, None
        return preview

    def take_made(self) -> list[OutputFile]:
        """Hand out once, of each node that is done, the files it has made; the first few."""
        made, self._made = self._made, []
        return made

    async def changed(self, seconds: float) -> bool:
        """Wait for news, at most ``seconds``; False when there were none."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True
