"""One prompt, driven from submission or adoption to its outcome."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import structlog

from comfy_worker.comfyui.client import ComfyClient
from comfy_worker.comfyui.driver_settings import DriverSettings
from comfy_worker.comfyui.errors import (
    ComfyError,
    ComfyUnreachableError,
    InputError,
    PromptRejectedError,
    PromptVanishedError,
    UnexpectedAnswerError,
)
from comfy_worker.comfyui.failures import (
    FailureCode,
    failure_of_entry,
    failure_of_inputs,
    failure_of_rejection,
)
from comfy_worker.comfyui.following import Follower
from comfy_worker.comfyui.graph import Graph
from comfy_worker.comfyui.lookup import find_adoptable
from comfy_worker.comfyui.mailbox import Mailbox
from comfy_worker.comfyui.outcomes import (
    Cancellation,
    Failed,
    Interrupted,
    LossReason,
    Lost,
    Outcome,
    Succeeded,
)
from comfy_worker.comfyui.outputs import output_files, output_texts
from comfy_worker.comfyui.progress import ProgressTracker
from comfy_worker.comfyui.prompt_state import Ending
from comfy_worker.comfyui.reporting import Observers, Reporter
from comfy_worker.comfyui.sent_pictures import SentPictures
from comfy_worker.comfyui.session import Session
from comfy_worker.comfyui.submission import submit
from comfy_worker.comfyui.suggestions import with_suggestions
from comfy_worker.comfyui.withdrawal import withdraw

_MOST_LISTS_ASKED_FOR: Final = 5

log = structlog.get_logger(__name__)


class PromptRun:
    """Drives one graph under one prompt id; to be run once.

    Prompt ids must be unique per try: an older entry under the same id would be taken
    for this one.
    """

    def __init__(
        self,
        client: ComfyClient,
        session: Session,
        settings: DriverSettings,
        *,
        prompt_id: str,
        graph: Graph,
        observers: Observers,
        scratch: Path | None,
    ) -> None:
        self._client = client
        self._session = session
        self._settings = settings
        self._prompt_id = prompt_id
        self._graph = graph
        self._reporter = Reporter(observers, settings.preview_interval)
        self._scratch = scratch
        self._mailbox = self._new_mailbox()
        self._cancel_requested = False
        self._with_comfyui = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self, adopt: Sequence[str], *, anew: bool = False) -> Outcome:
        """Adopt one of the prompt ids in ``adopt``, else submit; follow it to its outcome.

        ``anew``: the prompt id has been run before, that run does not count, and what ComfyUI
        has cached of it must not be the answer.

        A prompt that runs out of memory is tried once more after memory was freed.
        Cancelling this coroutine leaves the prompt with ComfyUI, to be adopted.
        """
        try:
            if anew:
                await self._client.free(models=False)
                await self._client.forget(self._prompt_id)
            return await self._run(adopt)
        except (ComfyUnreachableError, UnexpectedAnswerError) as error:
            reason = (
                LossReason.UNREACHABLE if self._with_comfyui.is_set() else LossReason.NOT_SUBMITTED
            )
            return Lost(self._prompt_id, reason, str(error))
        finally:
            self._with_comfyui.set()
            self._ended.set()

    async def cancel(self) -> Cancellation:
        """Stop the prompt wherever it is, see :func:`withdraw`; the run ends by itself."""
        self._cancel_requested = True
        await self._with_comfyui.wait()
        cancellation = await self._withdraw()
        # A removal from the queue is told by no event (recording 07a).
        self._mailbox.wake_to_look()
        return cancellation

    async def _run(self, adopt: Sequence[str]) -> Outcome:
        own_id = self._prompt_id
        adopted = await find_adoptable(self._client, adopt)
        if adopted is not None:
            log.info("prompt adopted", prompt_id=adopted)
            outcome = await self._adopt(adopted)
            if self._cancel_requested or not (
                isinstance(outcome, Interrupted | Lost) or _ran_out_of_memory(outcome)
            ):
                return outcome
            log.warning("adopted prompt ended without a result", prompt_id=adopted)
            self._start_over(own_id)
        outcome = await self._submit()
        if _ran_out_of_memory(outcome) and not self._cancel_requested:
            log.warning("out of memory, trying once more", prompt_id=self._prompt_id)
            await self._free_memory()
            outcome = await self._submit()
        return outcome

    def _start_over(self, prompt_id: str) -> None:
        self._with_comfyui.clear()
        self._prompt_id = prompt_id
        self._mailbox = self._new_mailbox()

    def _new_mailbox(self) -> Mailbox:
        sent = SentPictures(self._graph, self._scratch, self._settings.most_sent_bytes)
        return Mailbox(ProgressTracker(self._graph), sent)

    async def _free_memory(self) -> None:
        """Unload all models, and make room for the second try under the same prompt id."""
        await self._client.free()
        await self._client.forget(self._prompt_id)
        self._start_over(self._prompt_id)

    async def _adopt(self, prompt_id: str) -> Outcome:
        with self._session.listen(prompt_id, self._mailbox):
            self._accepted(prompt_id)
            self._mailbox.wake_to_look()
            return await self._follow(adopted=True)

    async def _submit(self) -> Outcome:
        with ExitStack() as listening:
            listening.enter_context(self._session.listen(self._prompt_id, self._mailbox))
            try:
                submitted = await submit(
                    self._client,
                    self._session,
                    self._mailbox,
                    prompt_id=self._prompt_id,
                    graph=self._graph,
                    previews=self._reporter.wants_previews,
                    is_wanted=lambda: not self._cancel_requested,
                    settings=self._settings,
                )
            except PromptRejectedError as rejection:
                rejection.inputs = await self._with_suggestions(rejection.inputs)
                return Failed(self._prompt_id, failure_of_rejection(rejection))
            if submitted is None:
                return Interrupted(self._prompt_id, requested=True)
            if submitted.prompt_id != self._prompt_id:
                listening.enter_context(self._session.listen(submitted.prompt_id, self._mailbox))
                # Its first events may have come before its name did.
                self._mailbox.wake_to_look()
            self._accepted(submitted.prompt_id)
            if submitted.refused:
                # Fewer outputs than asked for is not what the job is.
                await self._withdraw()
                refused = await self._with_suggestions(submitted.refused)
                return Failed(self._prompt_id, failure_of_inputs(refused))
            return await self._follow(adopted=False)

    def _accepted(self, prompt_id: str) -> None:
        self._prompt_id = prompt_id
        self._reporter.report_acceptance(prompt_id)
        self._with_comfyui.set()

    async def _follow(self, *, adopted: bool) -> Outcome:
        follower = Follower(
            self._client,
            self._mailbox,
            self._settings,
            lambda: self._reporter.report(self._mailbox),
            self._session.overhear,
        )
        try:
            entry = await follower.follow(self._prompt_id)
        except PromptVanishedError as vanished:
            if self._cancel_requested:
                return Interrupted(self._prompt_id, requested=True)
            reason = (
                LossReason.RESTARTED if self._mailbox.connection_was_lost else LossReason.VANISHED
            )
            return Lost(self._prompt_id, reason, str(vanished))
        match entry.ending:
            case Ending.SUCCEEDED:
                self._reporter.report_completion(self._mailbox)
                await self._await_pictures()
                return Succeeded(
                    self._prompt_id,
                    output_files(entry.outputs),
                    entry.seconds,
                    adopted,
                    texts=output_texts(entry.outputs),
                    pictures=self._mailbox.sent.pictures,
                    gap=self._mailbox.sent.gap,
                )
            case Ending.FAILED:
                return Failed(self._prompt_id, failure_of_entry(entry))
            case Ending.INTERRUPTED:
                return Interrupted(self._prompt_id, requested=self._cancel_requested)

    async def _await_pictures(self) -> None:
        """Wait for what was sent before the end, where the history was faster than the socket."""
        mailbox = self._mailbox
        if not mailbox.sent.are_awaited:
            return
        deadline = asyncio.get_running_loop().time() + self._settings.silence
        while mailbox.hears_events and not mailbox.sent.all_heard:
            if not await mailbox.changed(deadline - asyncio.get_running_loop().time()):
                return

    async def _with_suggestions(self, refused: Sequence[InputError]) -> tuple[InputError, ...]:
        """Say of values that ComfyUI does not have which of those it has are like them."""
        unlisted = dict.fromkeys(
            (error.node_class, error.input_name)
            for error in refused
            if error.value and error.choices is None
        )
        choices: dict[tuple[str, str], Sequence[str]] = {}
        for node_class, input_name in list(unlisted)[:_MOST_LISTS_ASKED_FOR]:
            try:
                choices[node_class, input_name] = await self._client.choices(node_class, input_name)
            except ComfyError as error:
                log.warning("no choices to suggest", node_class=node_class, reason=str(error))
        return tuple(
            with_suggestions(error, lambda *place: choices.get(place, ())) for error in refused
        )

    async def _withdraw(self) -> Cancellation:
        return await withdraw(
            self._client,
            self._prompt_id,
            seconds=self._settings.cancel_patience,
            is_amid_steps=self._mailbox.is_amid_steps,
            pause=self._pause_unless_ended,
        )

    async def _pause_unless_ended(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()


def _ran_out_of_memory(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.failure.code is FailureCode.OUT_OF_MEMORY
