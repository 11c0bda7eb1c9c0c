"""ComfyUI's HTTP routes, with typed answers and errors."""

from asyncio import to_thread
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from comfy_worker.comfyui.catalogue import choices_in
from comfy_worker.comfyui.errors import InputError, OutputMissingError, UnexpectedAnswerError
from comfy_worker.comfyui.graph import Graph
from comfy_worker.comfyui.health import Health
from comfy_worker.comfyui.outputs import OutputFile
from comfy_worker.comfyui.prompt_state import (
    HistoryEntry,
    QueueSnapshot,
    UnexpectedShapeError,
    history_entry_of,
    queue_of,
)
from comfy_worker.comfyui.rejection import input_errors_of, rejection_of
from comfy_worker.comfyui.server_info import ServerInfo, server_info_of
from comfy_worker.comfyui.transport import Download, Transport, excerpt, json_of

_SLOWEST_UPLOAD: Final = 256 * 1024
"""Bytes a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds a request may take in all; a download, per pause between two chunks.

    ``socket_heartbeat`` is the silence after which the WebSocket's peer is pinged.
    """

    read: float = 10.0
    submit: float = 15.0
    catalogue: float = 60.0
    download_pause: float = 30.0
    socket_heartbeat: float = 20.0
    ping: float = 5.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """ComfyUI took the prompt.

    ``prompt_id`` differs from the one asked for on servers before 0.3.45, which draw
    their own. ``refused`` names outputs that failed validation and will not run.
    """

    prompt_id: str
    refused: tuple[InputError, ...]


class ComfyClient:
    """Speaks to one ComfyUI; an async context manager that owns its connections.

    Every method raises ComfyUnreachableError when no answer comes, and
    UnexpectedAnswerError when it is not one the protocol knows.
    """

    def __init__(
        self, url: str, timeouts: Timeouts | None = None, health: Health | None = None
    ) -> None:
        self._transport = Transport(url, health or Health())
        self._timeouts = timeouts or Timeouts()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc, traceback)

    async def submit(
        self, graph: Graph, *, prompt_id: str, client_id: str, previews: bool
    ) -> Submitted:
        """``POST /prompt``.

        Always with a client id: without one, a fully cached run reports no outputs at
        all (recording 03), and one that is not a string kills the server (recording 19).

        Raises PromptRejectedError when validation refuses it. After any other error it
        may nevertheless be queued (recording 04 has a 500 that was).
        """
        body: dict[str, Any] = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        if previews:
            body["extra_data"] = {"preview_method": "latent2rgb"}
        status, text = await self._transport.post("prompt", body, seconds=self._timeouts.submit)
        if status == 400:
            raise rejection_of(json_of(text, status))
        answer = json_of(text, status) if status == 200 else None
        if not isinstance(answer, Mapping) or not isinstance(answer.get("prompt_id"), str):
            raise UnexpectedAnswerError(
                f"POST /prompt answered {status}: {excerpt(text)}", status=status
            )
        return Submitted(answer["prompt_id"], input_errors_of(answer.get("node_errors")))

    async def queue(self) -> QueueSnapshot:
        """``GET /queue``."""
        body = await self._transport.get_json("queue", seconds=self._timeouts.read)
        try:
            return queue_of(body)
        except UnexpectedShapeError as error:
            raise UnexpectedAnswerError(f"GET /queue: {error}", status=200) from error

    async def history(self, prompt_id: str) -> HistoryEntry | None:
        """``GET /history/{prompt_id}``; None while there is no entry."""
        body = await self._transport.get_json(f"history/{prompt_id}", seconds=self._timeouts.read)
        try:
            return history_entry_of(body, prompt_id)
        except UnexpectedShapeError as error:
            raise UnexpectedAnswerError(f"GET /history: {error}", status=200) from error

    async def forget(self, prompt_id: str) -> None:
        """``POST /history {delete}``: the entry is gone, the files are not (recording 20)."""
        await self._send("history", {"delete": [prompt_id]})

    async def delete_pending(self, prompt_id: str) -> None:
        """``POST /queue {delete}``: removes one pending entry, and answers OK in any case."""
        await self._send("queue", {"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        """``POST /interrupt {prompt_id}``.

        Answers OK whether or not it stopped anything. Servers before 0.3.57 ignore the
        id and stop whatever runs.
        """
        await self._send("interrupt", {"prompt_id": prompt_id})

    async def cancel_job(self, prompt_id: str) -> bool:
        """``POST /api/jobs/{prompt_id}/cancel``: take the prompt out wherever it is, in one step.

        False where the server has no such route. Versions after 0.8.0 have it, and answer OK
        also for a prompt that is done or unknown (ComfyUI's pull request 14493).
        """
        try:
            await self._send(f"api/jobs/{prompt_id}/cancel", {})
        except UnexpectedAnswerError as error:
            if error.status in {404, 405}:
                return False
            raise
        return True

    async def free(self, *, models: bool = True) -> None:
        """``POST /free``: drop the cached results before the next prompt, and the models."""
        await self._send("free", {"unload_models": models, "free_memory": True})

    async def upload(self, path: Path, *, name: str, folder: str) -> str:
        """``POST /upload/image`` into ``folder`` of the inputs; return the name it got.

        A file of that name with the same content stays as it is, also while a prompt reads it;
        beside one with another content, this gets another name (recording 10). The content is
        not checked, so that this takes files of any kind.
        """
        size = (await to_thread(path.stat)).st_size
        status, text = await self._transport.upload(
            "upload/image",
            path,
            name,
            {"subfolder": folder, "type": "input"},
            seconds=self._timeouts.submit + size / _SLOWEST_UPLOAD,
        )
        answer = json_of(text, status) if status == 200 else None
        stored = answer.get("name") if isinstance(answer, Mapping) else None
        if not isinstance(stored, str) or not stored:
            raise UnexpectedAnswerError(
                f"POST /upload/image answered {status}: {excerpt(text)}", status=status
            )
        return stored

    async def object_info(self) -> Mapping[str, Any]:
        """``GET /object_info``: every node class, with its inputs and their choices."""
        answer = await self._transport.get_json("object_info", seconds=self._timeouts.catalogue)
        if not isinstance(answer, Mapping):
            raise UnexpectedAnswerError("GET /object_info: not an object", status=200)
        return answer

    async def choices(self, node_class: str, input_name: str) -> tuple[str, ...]:
        """``GET /object_info/{class}``: the values one input takes, none when it is no choice."""
        if "/" in node_class:  # the route takes one segment
            return ()
        answer = await self._transport.get_json(
            f"object_info/{node_class}", seconds=self._timeouts.read
        )
        return choices_in(answer, node_class, input_name) or ()

    async def ping(self) -> None:
        """``GET /prompt``, the cheapest question; only the health learns the result."""
        await self._transport.ping("prompt", seconds=self._timeouts.ping)

    async def server_info(self) -> ServerInfo:
        """``GET /system_stats``: version, device, and what the server is able to do."""
        return server_info_of(
            await self._transport.get_json("system_stats", seconds=self._timeouts.read)
        )

    async def download(
        self, file: OutputFile, destination: Path, *, max_bytes: int, most_in_memory: int
    ) -> Download:
        """``GET /view``; what is larger than ``most_in_memory`` goes to ``destination``.

        Raises OutputMissingError where ComfyUI no longer has the file (recording 03) or
        refuses its name (recording 10), and OutputTooLargeError; an unfinished file may
        remain then.
        """
        query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.folder}
        try:
            return await self._transport.download(
                "view",
                query,
                destination,
                max_bytes=max_bytes,
                most_in_memory=most_in_memory,
                pause_seconds=self._timeouts.download_pause,
            )
        except UnexpectedAnswerError as error:
            if error.status in {400, 403, 404}:
                raise OutputMissingError(
                    f"ComfyUI answers {error.status} for its {file.folder} file {file.filename!r}"
                ) from error
            raise

    def websocket(
        self, client_id: str
    ) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        """``GET /ws`` under ``client_id``."""
        return self._transport.websocket(client_id, heartbeat=self._timeouts.socket_heartbeat)

    async def _send(self, path: str, body: Mapping[str, Any]) -> None:
        status, text = await self._transport.post(path, body, seconds=self._timeouts.read)
        if status >= 300:
            raise UnexpectedAnswerError(
                f"POST /{path} answered {status}: {excerpt(text)}", status=status
            )
