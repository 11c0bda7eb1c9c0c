"""From what a prompt made to artifacts of the job: fetched, thumbnailed, uploaded."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from generation_jobs.v1 import artifact_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import ComfyBackend
from comfy_worker.thumbnails import Picture, Thumbnail, read_picture
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.output_fetch import FetchedOutput, Output, fetch_output, name_of
from comfy_worker.worker.retrying import persistently

_LONGEST_NAME: Final = 255


class ResultUpload:
    """Uploads what one attempt made. At most two files are on this machine's disk at a time.

    ``hold`` is how many seconds an upload waits for an unreachable job_service.
    """

    def __init__(
        self,
        lease: pb.LeaseRef,
        backend: ComfyBackend,
        service: JobServiceConnection,
        *,
        max_bytes: int,
        hold: float,
    ) -> None:
        self._lease = lease
        self._backend = backend
        self._service = service
        self._max_bytes = max_bytes
        self._hold = hold

    async def upload(self, outputs: Sequence[Output], folder: Path) -> list[int]:
        """Upload every output and the thumbnails of pictures; return the artifacts' ids.

        ``folder`` is for the files in work: one is fetched while the one before is uploaded.
        Raises OutputMissingError, OutputTooLargeError, ComfyUnreachableError,
        UnexpectedAnswerError, and the errors of job_service: of several the first.
        """
        artifacts: list[int] = []
        uploading: asyncio.Task[list[int]] | None = None
        try:
            for position, output in enumerate(outputs):
                path = folder / str(position)
                fetched = await fetch_output(output, path, self._backend, max_bytes=self._max_bytes)
                picture = await read_picture(path)
                if uploading is not None:
                    artifacts += await uploading
                uploading = asyncio.create_task(
                    self._upload_all(position, output, path, fetched, picture)
                )
            if uploading is not None:
                artifacts += await uploading
        finally:
            if uploading is not None:
                uploading.cancel()
                await asyncio.wait([uploading])
        return artifacts

    async def _upload_all(
        self,
        position: int,
        output: Output,
        path: Path,
        fetched: FetchedOutput,
        picture: Picture | None,
    ) -> list[int]:
        """Upload a file and its thumbnails side by side, and remove the file."""
        thumbnails = picture.thumbnails if picture is not None else ()
        calls = [
            asyncio.create_task(call)
            for call in (
                self._upload_file(position, output, path, fetched, picture),
                *(self._upload_thumbnail(position, output, thumbnail) for thumbnail in thumbnails),
            )
        ]
        try:
            artifacts = await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        await asyncio.to_thread(path.unlink)
        return artifacts

    async def _upload_file(
        self,
        position: int,
        output: Output,
        path: Path,
        fetched: FetchedOutput,
        picture: Picture | None,
    ) -> int:
        header = self._header(position, output, artifact_pb2.ARTIFACT_ROLE_OUTPUT)
        header.content_type = fetched.media_type
        header.size = fetched.size
        header.sha256 = fetched.sha256
        measured = picture or fetched.measures
        header.width, header.height = measured.width, measured.height
        if fetched.measures.duration is not None:
            header.duration.FromTimedelta(fetched.measures.duration)
        return await self._send(header, path)

    async def _upload_thumbnail(self, position: int, output: Output, thumbnail: Thumbnail) -> int:
        header = self._header(position, output, artifact_pb2.ARTIFACT_ROLE_THUMBNAIL)
        header.content_type = "image/webp"
        header.size = len(thumbnail.content)
        header.sha256 = hashlib.sha256(thumbnail.content).digest()
        header.width, header.height = thumbnail.width, thumbnail.height
        header.thumbnail_size = thumbnail.size
        return await self._send(header, thumbnail.content)

    def _header(
        self, position: int, output: Output, role: artifact_pb2.ArtifactRole.ValueType
    ) -> pb.ArtifactHeader:
        return pb.ArtifactHeader(
            lease=self._lease,
            role=role,
            position=position,
            filename=name_of(output),
            node_id=output.node_id[:_LONGEST_NAME],
        )

    async def _send(self, header: pb.ArtifactHeader, content: Path | bytes) -> int:
        return await persistently(lambda: self._service.upload(header, content), seconds=self._hold)
