"""Following a prompt to its history entry: events as hints, queue and history as the truth."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final

import structlog

from comfy_worker.comfyui.client import ComfyClient
from comfy_worker.comfyui.driver_settings import DriverSettings
from comfy_worker.comfyui.errors import (
    ComfyUnreachableError,
    PromptVanishedError,
    UnexpectedAnswerError,
)
from comfy_worker.comfyui.lookup import look_up
from comfy_worker.comfyui.mailbox import Mailbox
from comfy_worker.comfyui.prompt_state import Absent, Finished, HistoryEntry, PromptState, Running

_LEAST_BETWEEN_LOOKS: Final = 0.1
_FIRST_WAIT_FOR_ENTRY: Final = 0.02
_LOOKS_BEFORE_VANISHED: Final = 2

log = structlog.get_logger(__name__)


class Follower:
    """Waits for one prompt to end.

    While its events come, ComfyUI is asked only at the end, or after a silence. A prompt
    whose events go elsewhere is looked up whenever the queue's length changes, and at
    the poll interval; once it runs, its events are overheard under the client id it was
    sent with. ``publish`` is called after each piece of news.
    """

    def __init__(
        self,
        client: ComfyClient,
        mailbox: Mailbox,
        settings: DriverSettings,
        publish: Callable[[], None],
        overhear: Callable[[str, str], AbstractContextManager[None]],
    ) -> None:
        self._client = client
        self._mailbox = mailbox
        self._settings = settings
        self._publish = publish
        self._overhear = overhear
        self._overheard = ExitStack()
        self._overheard_client_id: str | None = None
        self._clock = asyncio.get_running_loop().time
        self._last_look = float("-inf")
        self._unreachable_since: float | None = None
        self._absences = 0
        self._socket_is_mute = False
        """The prompt was found running though no event had said so (recording 17)."""
        self._wait_for_entry = 0.0
        """Above 0: the prompt is known to have ended; how long until the next look."""

    async def follow(self, prompt_id: str) -> HistoryEntry:
        """Return the prompt's history entry once there is one.

        Raises PromptVanishedError, and ComfyUnreachableError or UnexpectedAnswerError
        after the grace period.
        """
        with self._overheard:
            return await self._follow(prompt_id)

    async def _follow(self, prompt_id: str) -> HistoryEntry:
        while True:
            await self._wait_until_worth_a_look()
            state = await self._look(prompt_id)
            match state:
                case Finished(entry=entry):
                    return entry
                case Absent():
                    self._absences += 1
                    if self._absences >= _LOOKS_BEFORE_VANISHED:
                        raise PromptVanishedError(
                            "ComfyUI no longer knows the prompt; it restarted, or the prompt "
                            "was deleted from its queue"
                        )
                case Running(client_id=client_id):
                    self._absences = 0
                    self._listen_in(client_id, prompt_id)
                    if not self._mailbox.started:
                        self._socket_is_mute = True
                        self._mailbox.note_start(prompt_id)
                        self._publish()
                case _:
                    self._absences = 0

    def _listen_in(self, client_id: str | None, prompt_id: str) -> None:
        if self._mailbox.hears_events or client_id is None:
            return
        if client_id != self._overheard_client_id:
            self._overheard.close()
            self._overheard.enter_context(self._overhear(client_id, prompt_id))
            self._overheard_client_id = client_id

    async def _wait_until_worth_a_look(self) -> None:
        mailbox = self._mailbox
        deadline = self._clock() + self._patience()
        while await mailbox.changed(deadline - self._clock()):
            self._publish()
            self._socket_is_mute = self._socket_is_mute and mailbox.worth_a_look
            if mailbox.over:
                mailbox.over = False
                self._wait_for_entry = _FIRST_WAIT_FOR_ENTRY
                return
            if mailbox.ending:
                mailbox.ending = False
                self._wait_for_entry = _FIRST_WAIT_FOR_ENTRY
                deadline = min(deadline, self._clock() + self._wait_for_entry)
            elif mailbox.worth_a_look:
                mailbox.worth_a_look = False
                deadline = min(deadline, max(self._clock(), self._last_look + _LEAST_BETWEEN_LOOKS))
            elif mailbox.hears_events and not self._wait_for_entry:
                deadline = self._clock() + self._settings.silence

    def _patience(self) -> float:
        if self._unreachable_since is not None:
            return self._settings.poll
        if self._absences:
            return _LEAST_BETWEEN_LOOKS
        if self._wait_for_entry:
            self._wait_for_entry = min(self._wait_for_entry * 2, self._settings.poll)
            return self._wait_for_entry
        if self._mailbox.hears_events and not self._socket_is_mute:
            return self._settings.silence
        return self._settings.poll

    async def _look(self, prompt_id: str) -> PromptState | None:
        """Where the prompt stands, None when ComfyUI does not say."""
        self._last_look = self._clock()
        try:
            if self._wait_for_entry:
                entry = await self._client.history(prompt_id)
                if entry is not None:
                    return Finished(entry)
            state = await look_up(self._client, prompt_id)
        except (ComfyUnreachableError, UnexpectedAnswerError) as error:
            since = self._unreachable_since
            if since is None:
                self._unreachable_since = self._last_look
                log.warning("comfyui gives no answer", prompt_id=prompt_id, reason=str(error))
            elif self._clock() - since >= self._settings.unreachable_grace:
                raise
            return None
        self._unreachable_since = None
        return state
