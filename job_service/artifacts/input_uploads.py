"""Takes pictures that jobs shall start from: received, looked at, stored once."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from typing import BinaryIO, Final
from uuid import UUID

from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.artifacts.picture import NotAPictureError, read_picture
from job_service.jobs.refusals import Refusal, RefusedError, Violation, invalid_fields
from job_service.store.inputs import InputRow, InputTable, NewInput

#: Bytes read from a received file at a time.
_BLOCK_BYTES: Final = 1024 * 1024
#: Pictures decoded at once: each can take a quarter of a gibibyte.
_DECODED_AT_ONCE: Final = 2


class InputUploads:
    """Receives uploads into temporary files, so that they take no memory however slow they are."""

    def __init__(self, table: InputTable, objects: ObjectStoreOfArtifacts, max_bytes: int) -> None:
        self._table = table
        self._objects = objects
        self._max_bytes = max_bytes
        self._decoding = asyncio.Semaphore(_DECODED_AT_ONCE)

    async def take(self, user_id: UUID, filename: str, content: AsyncIterable[bytes]) -> InputRow:
        """Store a picture, or find it stored already.

        Raises RefusedError: INVALID_FIELDS for the field ``chunk`` when the content is too large or
        no picture, ARTIFACT_STORE_UNAVAILABLE, DATABASE_UNAVAILABLE.
        """
        with tempfile.TemporaryFile() as file:
            size, sha256 = await self._receive(content, file)
            known = await self._table.reuse(user_id, sha256)
            if known is not None:
                return known
            async with self._decoding:
                file.seek(0)
                try:
                    picture = await asyncio.to_thread(read_picture, file)
                except NotAPictureError as error:
                    raise _wrong(str(error)) from error
            row = await self._table.announce(
                NewInput(
                    user_id=user_id,
                    filename=filename,
                    content_type=picture.content_type,
                    size=size,
                    sha256=sha256,
                    width=picture.width,
                    height=picture.height,
                )
            )
            return row if row.stored_at is not None else await self._store(row, file)

    async def _receive(self, content: AsyncIterable[bytes], file: BinaryIO) -> tuple[int, bytes]:
        """Write all of ``content`` to ``file``; its size and SHA-256."""
        size = 0
        digest = hashlib.sha256()
        async for chunk in content:
            size += len(chunk)
            if size > self._max_bytes:
                raise _wrong(f"must have at most {self._max_bytes:,} bytes in all")
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk)
        if not size:
            raise _wrong("is required")
        return size, digest.digest()

    async def _store(self, row: InputRow, file: BinaryIO) -> InputRow:
        await self._objects.put(
            row.object_key,
            _blocks(file),
            size=row.size,
            sha256=row.sha256,
            content_type=row.content_type,
        )
        stored = await self._table.stored(row.id)
        if stored is None:
            # Swept before the bytes were here: nobody else will remove them.
            await self._objects.delete([row.object_key])
            raise RefusedError(
                Refusal.ARTIFACT_STORE_UNAVAILABLE, "the artifact store was too slow; try again"
            )
        return stored


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    file.seek(0)
    while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
        yield block


def _wrong(description: str) -> RefusedError:
    return invalid_fields([Violation("chunk", description)])
