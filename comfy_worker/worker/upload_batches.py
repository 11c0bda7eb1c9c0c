"""Which files of a job travel to job_service together."""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from generation_jobs.v1 import worker_service_pb2 as pb

MOST_FILES: Final = 64
"""In one UploadArtifacts call, as worker_service.proto says."""
MOST_BYTES: Final = 3 * 1024 * 1024
"""Of content in one such call. Files that are larger go by UploadArtifact."""


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file to upload. Its content is on disk when it is too large for UploadArtifacts."""

    header: pb.ArtifactHeader
    content: Path | bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that fit one call, or a large one. ``is_rest``: small ones, after which none comes."""

    files: list[ArtifactFile]
    is_rest: bool


async def batches(files: AsyncIterable[ArtifactFile]) -> AsyncGenerator[Batch]:
    """Put files together that fit one call, in their order; a large one is by itself.

    A batch comes as soon as nothing more goes into it, a large file at once.
    """
    batch: list[ArtifactFile] = []
    size = 0
    async for file in files:
        if batch and (len(batch) == MOST_FILES or size + file.header.size > MOST_BYTES):
            yield Batch(batch, is_rest=False)
            batch, size = [], 0
        batch.append(file)
        size += file.header.size
        if size > MOST_BYTES:
            yield Batch(batch, is_rest=False)
            batch, size = [], 0
    if batch:
        yield Batch(batch, is_rest=True)
