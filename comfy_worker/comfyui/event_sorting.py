"""From the events of one socket to the mailboxes of the prompts they are about."""

from collections.abc import Mapping

import structlog

from comfy_worker.comfyui.events import (
    Event,
    Executing,
    ExecutionStart,
    Malformed,
    NodeText,
    Status,
    Unknown,
)
from comfy_worker.comfyui.mailbox import Mailbox

log = structlog.get_logger(__name__)


class EventSorter:
    """Sorts what one socket says into ``mailboxes``, which are by prompt id.

    ``running`` is the prompt that runs as far as this socket is told, and has to be told
    where it is opened in mid-run. Frames without an id belong to it: ComfyUI runs one prompt
    at a time, and tells a client id only of its own.
    """

    def __init__(self, mailboxes: Mapping[str, Mailbox], running: str | None = None) -> None:
        self._mailboxes = mailboxes
        self._running = running

    def sort(self, event: Event) -> None:
        """Deliver an event, never waiting for anybody."""
        match event:
            case Status():
                for mailbox in self._mailboxes.values():
                    mailbox.queue_changed()
            case Malformed(reason=reason):
                log.debug("comfyui frame ignored", reason=reason)
            case NodeText() | Unknown():
                pass
            case ExecutionStart(prompt_id=prompt_id):
                self._running = prompt_id
                self._deliver(prompt_id, event)
            case Executing(prompt_id=str() as prompt_id, node_id=None):
                self._running = None
                self._deliver(prompt_id, event)
            case _:
                self._deliver(event.prompt_id or self._running, event)

    def _deliver(self, prompt_id: str | None, event: Event) -> None:
        mailbox = self._mailboxes.get(prompt_id) if prompt_id is not None else None
        if mailbox is not None:
            mailbox.deliver(event)
