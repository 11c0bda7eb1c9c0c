"""Takes the files that attempts make: announced, put, and then counted as stored.

All of it under the attempt's lease. Once that has ended, what an upload has put into the store is
removed by the sweeper, which goes by the rows, or by the upload itself when its rows are gone.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable, Sequence
from dataclasses import replace

from job_service.artifacts.objects import (
    ContentMismatchError,
    ObjectStoreOfArtifacts,
    check_content,
)
from job_service.jobs.limits import MAX_CHUNK_BYTES
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.artifacts import ArtifactRow, ArtifactTable, NewArtifact
from job_service.store.completions import Completion, CompletionStore
from job_service.store.lease_key import LeaseEndedError, LeaseKey
from job_service.store.outcomes import UNSTORED, Ended


class ResultUploads:
    """Large files one by one, small ones together, the last of them with the job's completion.

    Each way raises LeaseEndedError, and RefusedError: CONTENT_MISMATCH when the bytes are not the
    announced ones, ARTIFACT_STORE_UNAVAILABLE, DATABASE_UNAVAILABLE.
    """

    def __init__(
        self,
        table: ArtifactTable,
        completions: CompletionStore,
        objects: ObjectStoreOfArtifacts,
    ) -> None:
        self._table = table
        self._completions = completions
        self._objects = objects

    async def take(
        self, lease: LeaseKey, artifact: NewArtifact, content: AsyncIterable[bytes]
    ) -> ArtifactRow:
        """Store a file of any size."""
        (announced,) = await self._announced(lease, [artifact])
        try:
            await self._objects.put(
                announced.object_key,
                content,
                size=artifact.size,
                sha256=artifact.sha256,
                content_type=artifact.content_type,
            )
        except ContentMismatchError as error:
            raise RefusedError(Refusal.CONTENT_MISMATCH, str(error)) from error
        (stored,) = await self._stored(lease, [announced])
        return stored

    async def take_all(
        self, lease: LeaseKey, files: Sequence[tuple[NewArtifact, bytes]]
    ) -> list[ArtifactRow]:
        """Store small files, all or none, in their order; no two have the same place.

        Of files that are not as announced the first is named in CONTENT_MISMATCH.
        """
        return await self._stored(lease, await self._put_all(lease, files))

    async def complete(
        self, completion: Completion, files: Sequence[tuple[NewArtifact, bytes]]
    ) -> tuple[list[ArtifactRow], Ended]:
        """Store small files as :meth:`take_all` does, and complete their job in the same statement.

        Once the lease has ended, answers what it has recorded, and the files it has stored.
        """
        lease = completion.lease
        try:
            put = await self._put_all(lease, files)
        except LeaseEndedError:
            put = []
            ended = await self._completions.completed_before(lease)
        else:
            ended = await self._completions.complete(
                replace(completion, put_ids=[row.id for row in put])
            )
        if ended.changed or ended.status == UNSTORED:
            return put, ended
        await self._remove_swept(put)
        if ended.status is None:
            raise LeaseEndedError
        places = {_place(row): row for row in await self._table.of_lease(lease)}
        wanted = (_place(artifact) for artifact, _ in files)
        return [places[place] for place in wanted if place in places], ended

    async def _put_all(
        self, lease: LeaseKey, files: Sequence[tuple[NewArtifact, bytes]]
    ) -> list[ArtifactRow]:
        for index, (artifact, content) in enumerate(files):
            await _check(index, artifact, content)
        announced = await self._announced(lease, [artifact for artifact, _ in files])
        objects = [
            (row.object_key, content, row.content_type)
            for row, (_, content) in zip(announced, files, strict=True)
        ]
        try:
            await self._objects.put_whole(objects)
        except RefusedError:
            await self._remove_swept(announced)
            raise
        return announced

    async def _announced(
        self, lease: LeaseKey, artifacts: Sequence[NewArtifact]
    ) -> list[ArtifactRow]:
        announced = await self._table.announce(lease, artifacts)
        if announced is None:
            raise LeaseEndedError
        return announced

    async def _stored(self, lease: LeaseKey, announced: Sequence[ArtifactRow]) -> list[ArtifactRow]:
        stored = await self._table.stored(lease, [row.id for row in announced])
        if stored is None:
            await self._remove_swept(announced)
            raise LeaseEndedError
        return stored

    async def _remove_swept(self, announced: Sequence[ArtifactRow]) -> None:
        """Remove the objects that were put after their rows had gone: nobody else will."""
        if not announced:
            return
        known = await self._table.known([row.id for row in announced])
        await self._objects.delete([row.object_key for row in announced if row.id not in known])


async def _check(index: int, artifact: NewArtifact, content: bytes) -> None:
    if len(content) <= MAX_CHUNK_BYTES:
        digest = _sha256(content)
    else:  # some milliseconds: not on the event loop
        digest = await asyncio.to_thread(_sha256, content)
    try:
        check_content(len(content), digest, size=artifact.size, sha256=artifact.sha256)
    except ContentMismatchError as error:
        raise RefusedError(
            Refusal.CONTENT_MISMATCH, f"files[{index}] ({artifact.filename!r}): {error}"
        ) from error


def _place(artifact: NewArtifact | ArtifactRow) -> tuple[str, int, int]:
    return artifact.role, artifact.position, artifact.thumbnail_size


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
