"""The files a graph starts from: out of job_service, into ComfyUI, their names into the graph."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grpc
from generation_jobs.v1 import worker_service_pb2 as pb
from generation_jobs.v1.artifact_pb2 import InputAsset

from comfy_worker.comfyui import (
    Failure,
    Graph,
    UnexpectedAnswerError,
    Uploads,
    texts_in,
    with_texts_replaced,
)
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.retrying import persistently
from comfy_worker.worker.service_errors import CallRefusedError, ServiceUnavailableError

SCHEME: Final = "input://"
_MOST_DAMAGED: Final = 3
"""Times that other bytes than announced may come."""
_EXTENSIONS: Final[Mapping[str, str]] = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "image/avif": ".avif",
}


class InputMissingError(Exception):
    """An input cannot be had, or ComfyUI does not take it; another attempt changes nothing."""


class GraphInputs:
    """Brings the inputs of one lease to the ComfyUI that runs it.

    Only what the graph names is read. At most one file is on this machine's disk at a time.
    ``hold`` is how many seconds reading one waits for an unreachable job_service.
    """

    def __init__(
        self,
        lease: pb.Lease,
        ref: pb.LeaseRef,
        uploads: Uploads,
        service: JobServiceConnection,
        *,
        hold: float,
    ) -> None:
        self._assets = {f"{SCHEME}{each.name}": each.input for each in lease.inputs}
        self._ref = ref
        self._uploads = uploads
        self._service = service
        self._hold = hold
        self._remembered: dict[str, str] = {}
        """Values in the graph of files that were not uploaded for this lease, and their names."""

    async def place(self, graph: Graph) -> Graph:
        """Upload what ``graph`` names and return it with the names ComfyUI has given.

        Raises InputMissingError, ComfyUnreachableError, UnexpectedAnswerError and the errors
        of job_service.
        """
        named = dict.fromkeys(text for text in texts_in(graph) if text.startswith(SCHEME))
        values = {text: await self._value_of(text) for text in named}
        return with_texts_replaced(graph, values)

    def forget_refused(self, failure: Failure, graph: Graph) -> bool:
        """Whether ``graph`` was refused for a file that was only remembered to be there.

        Those files are uploaded again by the next :meth:`place`.
        """
        refused = {
            wrong.node_id: graph[wrong.node_id]
            for wrong in failure.inputs
            if wrong.node_id in graph
        }
        values = set(texts_in(refused))
        gone = [value for value in self._remembered if value in values]
        for value in gone:
            self._uploads.forget(self._remembered.pop(value))
        return bool(gone)

    async def _value_of(self, text: str) -> str:
        asset = self._assets.get(text)
        if asset is None:
            raise InputMissingError(f"The workflow names the input {text}, which the job has not.")
        name = f"{asset.sha256.hex()}{_EXTENSIONS.get(asset.content_type, '')}"
        value = self._uploads.find(name)
        if value is not None:
            self._remembered[value] = name
            return value
        with tempfile.TemporaryDirectory(prefix="comfy-worker-") as folder:
            path = Path(folder) / "input"
            await self._read(text, asset, path)
            return await self._upload(text, name, path)

    async def _read(self, text: str, asset: InputAsset, path: Path) -> None:
        tries = 0

        async def read() -> None:
            nonlocal tries
            tries += 1
            try:
                await self._service.read_input(self._ref, asset, path)
            except CallRefusedError as error:
                is_gone = error.status is grpc.StatusCode.NOT_FOUND
                why = "is not there any more" if is_gone else "cannot be read"
                raise InputMissingError(f"The input {text} {why}.") from error
            except ServiceUnavailableError as error:
                if error.status is not grpc.StatusCode.DATA_LOSS or tries < _MOST_DAMAGED:
                    raise
                raise InputMissingError(f"The content of the input {text} is damaged.") from error

        await persistently(read, self._service.contact, seconds=self._hold)

    async def _upload(self, text: str, name: str, path: Path) -> str:
        try:
            return await self._uploads.put(name, path)
        except UnexpectedAnswerError as error:
            if error.status == 413:
                raise InputMissingError(
                    f"The input {text} is larger than ComfyUI takes."
                ) from error
            raise
