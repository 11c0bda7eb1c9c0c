"""What a prompt has made, fetched and looked at before its end is confirmed."""

import asyncio

from comfy_worker.comfyui import ComfyBackend, OutputFile
from comfy_worker.worker.output_fetch import FetchedOutput, Output, fetch_early
from comfy_worker.worker.upload_batches import MOST_FILES


class EarlyOutputs:
    """Fetches small files as soon as ComfyUI says that a node has made them, one at a time.

    Together they have at most ``most_bytes``, and they are no more than fit one call. The history
    still decides what the prompt has made: what it lists and is not here is fetched then. To be
    closed.
    """

    def __init__(self, backend: ComfyBackend, most_bytes: int) -> None:
        self._backend = backend
        self._most_bytes = most_bytes
        self._left = most_bytes
        self._turn = asyncio.Lock()
        self._fetching: dict[OutputFile, asyncio.Task[FetchedOutput | None]] = {}

    def begin(self) -> None:
        """Forget everything: a prompt is in ComfyUI that has made nothing yet."""
        for task in self._fetching.values():
            task.cancel()
        self._fetching.clear()
        self._left = self._most_bytes

    def fetch(self, file: OutputFile) -> None:
        """Begin to fetch a file. One that is only for display may not be wanted in the end."""
        if file.is_preview or file in self._fetching:
            return
        if self._left > 0 and len(self._fetching) < MOST_FILES:
            self._fetching[file] = asyncio.create_task(self._fetch(file))

    async def take(self, output: Output) -> FetchedOutput | None:
        """Return what has been fetched, once; None when it has to be fetched."""
        task = self._fetching.pop(output, None) if isinstance(output, OutputFile) else None
        return None if task is None else await task

    async def close(self) -> None:
        """Fetch no more."""
        tasks = list(self._fetching.values())
        self.begin()
        if tasks:
            await asyncio.wait(tasks)

    async def _fetch(self, file: OutputFile) -> FetchedOutput | None:
        async with self._turn:
            if self._left <= 0:
                return None
            fetched = await fetch_early(file, self._backend, most_bytes=self._left)
            self._left -= self._left if fetched is None else fetched.size
            return fetched
