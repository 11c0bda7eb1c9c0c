"""From the files a prompt made to artifacts of the job: fetched, thumbnailed, uploaded."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Final

from generation_jobs.v1 import artifact_pb2
from generation_jobs.v1 import worker_service_pb2 as pb
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from comfy_worker.comfyui import ComfyBackend, ComfyUnreachableError, Download, OutputFile
from comfy_worker.thumbnails import Picture, Thumbnail, read_picture
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.retrying import persistently

_FETCH_SECONDS: Final = 60.0
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

    async def upload(self, files: Sequence[OutputFile], folder: Path) -> list[int]:
        """Upload every file and the thumbnails of pictures; return the artifacts' ids.

        ``folder`` is for the files in work: one is fetched while the one before is uploaded.
        Raises OutputMissingError, OutputTooLargeError, ComfyUnreachableError,
        UnexpectedAnswerError, and the errors of job_service: of several the first.
        """
        artifacts: list[int] = []
        uploading: asyncio.Task[list[int]] | None = None
        try:
            for position, file in enumerate(files):
                path = folder / str(position)
                download = await self._fetch(file, path)
                picture = await read_picture(path)
                if uploading is not None:
                    artifacts += await uploading
                uploading = asyncio.create_task(
                    self._upload_all(position, file, path, download, picture)
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
        file: OutputFile,
        path: Path,
        download: Download,
        picture: Picture | None,
    ) -> list[int]:
        """Upload a file and its thumbnails side by side, and remove the file."""
        thumbnails = picture.thumbnails if picture is not None else ()
        calls = [
            asyncio.create_task(call)
            for call in (
                self._upload_file(position, file, path, download, picture),
                *(self._upload_thumbnail(position, file, thumbnail) for thumbnail in thumbnails),
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

    async def _fetch(self, file: OutputFile, path: Path) -> Download:
        """Fetch a file, also from a ComfyUI that is just being restarted: its files stay."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ComfyUnreachableError),
            wait=wait_random_exponential(multiplier=0.2, max=5.0),
            stop=stop_after_delay(_FETCH_SECONDS),
            reraise=True,
        ):
            with attempt:
                return await self._backend.fetch(file, path, max_bytes=self._max_bytes)
        raise AssertionError  # pragma: no cover - tenacity re-raises the last error

    async def _upload_file(
        self,
        position: int,
        file: OutputFile,
        path: Path,
        download: Download,
        picture: Picture | None,
    ) -> int:
        header = self._header(position, file, artifact_pb2.ARTIFACT_ROLE_OUTPUT)
        header.content_type = download.media_type
        header.size = download.size
        header.sha256 = bytes.fromhex(download.sha256)
        if picture is not None:
            header.width, header.height = picture.width, picture.height
        return await self._send(header, path)

    async def _upload_thumbnail(self, position: int, file: OutputFile, thumbnail: Thumbnail) -> int:
        header = self._header(position, file, artifact_pb2.ARTIFACT_ROLE_THUMBNAIL)
        header.content_type = "image/webp"
        header.size = len(thumbnail.content)
        header.sha256 = hashlib.sha256(thumbnail.content).digest()
        header.width, header.height = thumbnail.width, thumbnail.height
        header.thumbnail_size = thumbnail.size
        return await self._send(header, thumbnail.content)

    def _header(
        self, position: int, file: OutputFile, role: artifact_pb2.ArtifactRole.ValueType
    ) -> pb.ArtifactHeader:
        return pb.ArtifactHeader(
            lease=self._lease,
            role=role,
            position=position,
            # ComfyUI on Windows names folders with backslashes.
            filename=PureWindowsPath(file.filename).name[-_LONGEST_NAME:],
            node_id=file.node_id[:_LONGEST_NAME],
        )

    async def _send(self, header: pb.ArtifactHeader, content: Path | bytes) -> int:
        return await persistently(lambda: self._service.upload(header, content), seconds=self._hold)
