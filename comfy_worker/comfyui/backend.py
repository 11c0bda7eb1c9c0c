"""One named ComfyUI and everything that is done with it."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from comfy_worker.comfyui.catalogue import Catalogue, catalogue_of
from comfy_worker.comfyui.client import ComfyClient
from comfy_worker.comfyui.driver_settings import DriverSettings
from comfy_worker.comfyui.failures import FailureCode, failure_of_paths
from comfy_worker.comfyui.forbidden_paths import forbidden_paths
from comfy_worker.comfyui.graph import Graph, checkpoint_of
from comfy_worker.comfyui.health import Health
from comfy_worker.comfyui.outcomes import Cancellation, Failed, Outcome
from comfy_worker.comfyui.outputs import OutputFile
from comfy_worker.comfyui.prompt_run import PromptRun
from comfy_worker.comfyui.reporting import Observers
from comfy_worker.comfyui.server_info import ServerInfo
from comfy_worker.comfyui.session import Session
from comfy_worker.comfyui.transport import Download
from comfy_worker.comfyui.uploads import Uploads
from comfy_worker.comfyui.withdrawal import withdraw


class ComfyBackend:
    """A ComfyUI at ``url``, known to the job service as ``name``.

    An async context manager that keeps the WebSocket open. Prompts it is driving when
    it closes stay with ComfyUI.
    """

    def __init__(self, name: str, url: str, settings: DriverSettings | None = None) -> None:
        self.name = name
        self.url = url
        self._settings = settings or DriverSettings()
        self._health = Health()
        self._client = ComfyClient(url, self._settings.timeouts, self._health)
        self._session = Session(self._client, self._health)
        self.uploads = Uploads(self._client)
        self._runs: dict[str, PromptRun] = {}
        self._open = AsyncExitStack()
        self._checkpoint: tuple[str, str] | None = None
        """The checkpoint that was loaded last, and the client id at that time."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._client)
            # For what these tasks log: each has a copy of this context.
            with structlog.contextvars.bound_contextvars(backend=self.name):
                await stack.enter_async_context(self._session)
                probing = asyncio.create_task(
                    self._health.probe(self._client.ping), name="comfyui-probe"
                )
            stack.push_async_callback(_end, probing)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    @property
    def connected(self) -> bool:
        """Whether the WebSocket is open."""
        return self._session.connected

    async def wait_connected(self, seconds: float | None = None) -> bool:
        """Wait until the WebSocket is open, at most ``seconds``; return whether it is."""
        return await self._session.wait_connected(seconds)

    async def wait_disconnected(self) -> None:
        """Wait until the WebSocket is not open."""
        await self._session.wait_disconnected()

    @property
    def available(self) -> bool:
        """Whether it is worth giving prompts to: connected, answering, without device fault."""
        return self._health.available.is_set()

    async def wait_available(self, seconds: float | None = None) -> bool:
        """Wait until it can be given prompts, at most ``seconds``; return whether it can."""
        try:
            async with asyncio.timeout(seconds):
                await self._health.available.wait()
        except TimeoutError:
            return False
        return True

    async def wait_unavailable(self) -> None:
        """Wait until it cannot be given prompts."""
        await self._health.unavailable.wait()

    @property
    def loaded_checkpoint(self) -> str | None:
        """The checkpoint of the prompt that ran last, which ComfyUI keeps in memory.

        None again once the connection was lost: ComfyUI may have been restarted.
        """
        checkpoint, client_id = self._checkpoint or (None, None)
        return checkpoint if client_id == self._session.client_id else None

    async def run(
        self,
        prompt_id: str,
        graph: Graph,
        *,
        adopt: Sequence[str] = (),
        observers: Observers | None = None,
        scratch: Path | None = None,
        anew: bool = False,
    ) -> Outcome:
        """Run ``graph`` as ``prompt_id``, or adopt an earlier try of it, to its outcome.

        ``adopt`` holds prompt ids of earlier tries, latest first: one that is still
        queued, running, or has succeeded is taken over instead of rendering again.
        ``scratch`` is a folder for pictures that nodes send instead of saving them, made when the
        first comes; without one they are dropped. ``anew`` runs a prompt id a second time,
        forgetting the first. Cancelling the coroutine leaves the prompt with ComfyUI. A graph
        with paths that lead out of ComfyUI's folders fails without being sent.
        """
        forbidden = forbidden_paths(graph)
        if forbidden:
            return Failed(prompt_id, failure_of_paths(forbidden))
        run = PromptRun(
            self._client,
            self._session,
            self._settings,
            prompt_id=prompt_id,
            graph=graph,
            observers=observers or Observers(),
            scratch=scratch,
        )
        self._runs[prompt_id] = run
        try:
            outcome = await run.run(adopt, anew=anew)
        finally:
            del self._runs[prompt_id]
        if isinstance(outcome, Failed) and outcome.failure.code is FailureCode.DEVICE_FAULT:
            self._health.device_fault()
        checkpoint = checkpoint_of(graph)
        if checkpoint is not None:
            self._checkpoint = checkpoint, self._session.client_id
        return outcome

    async def cancel(self, prompt_id: str) -> Cancellation:
        """Take ``prompt_id`` back, as given to :meth:`run` or sent by somebody before.

        Returns what was verified; a run in progress ends with its own outcome. Raises
        ComfyUnreachableError and UnexpectedAnswerError.
        """
        run = self._runs.get(prompt_id)
        if run is not None:
            return await run.cancel()
        return await withdraw(
            self._client,
            prompt_id,
            seconds=self._settings.cancel_patience,
            is_amid_steps=lambda: False,
            pause=asyncio.sleep,
        )

    async def fetch(
        self, file: OutputFile, destination: Path, *, max_bytes: int, most_in_memory: int = 0
    ) -> Download:
        """Take an output: into memory, or what is larger than that to ``destination``.

        Raises OutputMissingError, OutputTooLargeError, ComfyUnreachableError and
        UnexpectedAnswerError; an unfinished file may remain then.
        """
        return await self._client.download(
            file, destination, max_bytes=max_bytes, most_in_memory=most_in_memory
        )

    async def catalogue(self) -> Catalogue:
        """Read what this ComfyUI offers.

        Raises ComfyUnreachableError and UnexpectedAnswerError.
        """
        return catalogue_of(await self._client.object_info())

    async def server_info(self) -> ServerInfo:
        """Read what this ComfyUI says about itself; raises as :meth:`catalogue` does."""
        return await self._client.server_info()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
