"""From what a prompt made to artifacts of the job: fetched, thumbnailed, uploaded."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from generation_jobs.v1 import artifact_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import ComfyBackend
from comfy_worker.thumbnails import Thumbnail
from comfy_worker.worker.early_outputs import EarlyOutputs
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.output_fetch import FetchedOutput, Output, fetch_output, name_of
from comfy_worker.worker.retrying import persistently
from comfy_worker.worker.upload_batches import MOST_BYTES, ArtifactFile, batches

_LONGEST_NAME: Final = 255


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The artifacts that job_service has, and the files that it gets with the job's completion.

    ``remaining`` fits one call.
    """

    artifact_ids: Sequence[int]
    remaining: Sequence[tuple[pb.ArtifactHeader, bytes]]


class ResultUpload:
    """Uploads what one attempt made, but for the last few files.

    While one batch of files is uploaded, the next is fetched: at most two files are on this
    machine's disk at a time, and two calls' worth of them in its memory.
    ``hold`` is how many seconds an upload waits for an unreachable job_service.
    """

    def __init__(
        self,
        lease: pb.LeaseRef,
        backend: ComfyBackend,
        service: JobServiceConnection,
        early: EarlyOutputs,
        *,
        max_bytes: int,
        hold: float,
    ) -> None:
        self._lease = lease
        self._backend = backend
        self._early = early
        self._service = service
        self._max_bytes = max_bytes
        self._hold = hold

    async def upload(self, outputs: Sequence[Output], folder: Path) -> Uploaded:
        """Upload every output and the thumbnails of pictures, up to what fits the last call.

        ``folder`` is for the files in work. Raises OutputMissingError, OutputTooLargeError,
        ComfyUnreachableError, UnexpectedAnswerError, and the errors of job_service: of several
        the first.
        """
        artifacts: list[int] = []
        uploading: asyncio.Task[list[int]] | None = None
        rest: Sequence[tuple[pb.ArtifactHeader, bytes]] = ()
        try:
            async with (
                aclosing(self._files(outputs, folder)) as files,
                aclosing(batches(files)) as together,
            ):
                async for batch in together:
                    if uploading is not None:
                        artifacts += await uploading
                        uploading = None
                    if batch.is_rest:
                        rest = _small(batch.files)
                    else:
                        uploading = asyncio.create_task(self._send(batch.files))
            if uploading is not None:
                artifacts += await uploading
        finally:
            if uploading is not None:
                uploading.cancel()
                await asyncio.wait([uploading])
        return Uploaded(artifacts, rest)

    async def _files(self, outputs: Sequence[Output], folder: Path) -> AsyncGenerator[ArtifactFile]:
        """Every output, each followed by its thumbnails."""
        for position, output in enumerate(outputs):
            path = folder / str(position)
            fetched = await self._early.take(output) or await fetch_output(
                output,
                path,
                self._backend,
                max_bytes=self._max_bytes,
                most_in_memory=MOST_BYTES,
            )
            header = self._output_header(position, output, fetched)
            yield ArtifactFile(header, path if fetched.content is None else fetched.content)
            for thumbnail in fetched.picture.thumbnails if fetched.picture is not None else ():
                yield ArtifactFile(
                    self._thumbnail_header(position, output, thumbnail), thumbnail.content
                )

    def _output_header(
        self, position: int, output: Output, fetched: FetchedOutput
    ) -> pb.ArtifactHeader:
        header = self._header(position, output, artifact_pb2.ARTIFACT_ROLE_OUTPUT)
        header.content_type = fetched.media_type
        header.size = fetched.size
        header.sha256 = fetched.sha256
        measured = fetched.picture or fetched.measures
        header.width, header.height = measured.width, measured.height
        if fetched.measures.duration is not None:
            header.duration.FromTimedelta(fetched.measures.duration)
        return header

    def _thumbnail_header(
        self, position: int, output: Output, thumbnail: Thumbnail
    ) -> pb.ArtifactHeader:
        header = self._header(position, output, artifact_pb2.ARTIFACT_ROLE_THUMBNAIL)
        header.content_type = "image/webp"
        header.size = len(thumbnail.content)
        header.sha256 = hashlib.sha256(thumbnail.content).digest()
        header.width, header.height = thumbnail.width, thumbnail.height
        header.thumbnail_size = thumbnail.size
        return header

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

    async def _send(self, batch: Sequence[ArtifactFile]) -> list[int]:
        small = _small(batch)
        if len(small) == len(batch):
            artifacts = await persistently(
                lambda: self._service.upload_together(small),
                self._service.contact,
                seconds=self._hold,
            )
            if artifacts is not None:
                return artifacts
        return [await self._send_alone(file) for file in batch]

    async def _send_alone(self, file: ArtifactFile) -> int:
        artifact = await persistently(
            lambda: self._service.upload(file.header, file.content),
            self._service.contact,
            seconds=self._hold,
        )
        if isinstance(file.content, Path):
            await asyncio.to_thread(file.content.unlink)
        return artifact


def _small(batch: Sequence[ArtifactFile]) -> list[tuple[pb.ArtifactHeader, bytes]]:
    return [(file.header, file.content) for file in batch if isinstance(file.content, bytes)]
