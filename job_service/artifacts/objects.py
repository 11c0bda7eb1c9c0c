"""The artifact store: a directory or a bucket, through obstore."""

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from job_service.jobs.refusals import Refusal, RefusedError

_PART_BYTES: Final = 5 * 1024 * 1024
#: Small objects on their way to a bucket at the same time.
_PUT_AT_ONCE: Final = 16


class ContentMismatchError(Exception):
    """The bytes received are not the ones announced."""


class ObjectStoreOfArtifacts:
    """Objects by key. Keys are made by the service, never by callers.

    Every method raises RefusedError with ARTIFACT_STORE_UNAVAILABLE when the store fails.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._putting = asyncio.Semaphore(_PUT_AT_ONCE)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open ``file:///directory`` (made if it is missing), ``s3://bucket/prefix`` and so on.

        Raises ValueError for a URL no store is known for, OSError for a directory that cannot be
        made.
        """
        parts = urlsplit(url)
        if parts.scheme == "file":
            directory = Path(url2pathname(parts.path))
            directory.mkdir(parents=True, exist_ok=True)
        try:
            return cls(from_url(url))
        except BaseError as error:
            raise ValueError(f"cannot open the artifact store: {error}") from error

    async def put(
        self,
        key: str,
        content: AsyncIterable[bytes],
        *,
        size: int,
        sha256: bytes,
        content_type: str,
    ) -> None:
        """Store an object, at most two parts of it in memory at a time.

        Its signed URLs will say this content type. A directory keeps none, and has no URLs.

        Raises ContentMismatchError, leaving nothing behind, when ``content`` does not have this
        size and SHA-256.
        """
        measured = _Measured(content, size)
        if size <= _PART_BYTES:
            whole = b"".join([chunk async for chunk in measured])
            measured.check(sha256)
            await self.put_whole([(key, whole, content_type)])
            return
        with _store_errors():
            try:
                await obstore.put_async(
                    self._store,
                    key,
                    measured,
                    attributes=self._attributes(content_type),
                    chunk_size=_PART_BYTES,
                    max_concurrency=2,
                )
            except Exception:
                # The store wraps what the iterator raised in an error of its own.
                if measured.error is not None:
                    raise measured.error from None
                raise
            try:
                measured.check(sha256)
            except ContentMismatchError:
                await obstore.delete_async(self._store, key)
                raise

    async def put_whole(self, objects: Sequence[tuple[str, bytes, str]]) -> None:
        """Store small objects whose bytes are known to be right: key, content, content type.

        When this raises, some may be stored, and none is being stored any more.
        """
        with _store_errors():
            if isinstance(self._store, LocalStore):
                # Each would be a way to a thread and back: longer than it takes to write the file.
                await asyncio.to_thread(self._put_one_by_one, objects)
                return
            put = await asyncio.gather(*map(self._put_beside, objects), return_exceptions=True)
            for failure in put:
                if failure is not None:
                    raise failure

    def _put_one_by_one(self, objects: Sequence[tuple[str, bytes, str]]) -> None:
        for key, content, _ in objects:
            obstore.put(self._store, key, content)

    async def _put_beside(self, described: tuple[str, bytes, str]) -> None:
        key, content, content_type = described
        async with self._putting:
            await obstore.put_async(
                self._store, key, content, attributes=self._attributes(content_type)
            )

    def _attributes(self, content_type: str) -> dict[str, str] | None:
        if isinstance(self._store, LocalStore):  # which refuses them
            return None
        return {"Content-Type": content_type}

    async def read(self, key: str, chunk_bytes: int) -> AsyncIterator[bytes]:
        """The object's bytes in chunks of at most ``chunk_bytes``."""
        with _store_errors():
            result = await obstore.get_async(self._store, key)
            async for block in result.stream(min_chunk_size=chunk_bytes):
                view = memoryview(block)
                for start in range(0, len(view), chunk_bytes):
                    yield bytes(view[start : start + chunk_bytes])

    async def signed_url(self, key: str, lifetime: timedelta) -> str:
        """A URL that gives the object's bytes to anybody for a while.

        Raises RefusedError with NO_ARTIFACT_URLS when the store has none.
        """
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            raise RefusedError(
                Refusal.NO_ARTIFACT_URLS,
                "this artifact store has no URLs to give out; use ReadArtifact",
            )
        with _store_errors():
            return await obstore.sign_async(self._store, "GET", key, lifetime)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        with _store_errors():
            for key in keys:
                try:
                    await obstore.delete_async(self._store, key)
                except FileNotFoundError:
                    continue


def check_content(received: int, digest: bytes, *, size: int, sha256: bytes) -> None:
    """Raise ContentMismatchError unless as many bytes came as announced, with this SHA-256."""
    if received != size or digest != sha256:
        raise ContentMismatchError(
            f"announced {size} bytes with SHA-256 {sha256.hex()}, received"
            f" {received} with {digest.hex()}"
        )


class _Measured:
    """Passes chunks on and counts and hashes them; stops at more bytes than announced."""

    def __init__(self, content: AsyncIterable[bytes], limit: int) -> None:
        self._content = content
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0
        self.error: Exception | None = None

    def check(self, sha256: bytes) -> None:
        """Raise ContentMismatchError unless exactly the announced bytes came."""
        check_content(self.size, self._hash.digest(), size=self._limit, sha256=sha256)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._content:
                self.size += len(chunk)
                self._check_size()
                self._hash.update(chunk)
                yield chunk
        except Exception as error:
            self.error = error
            raise

    def _check_size(self) -> None:
        if self.size > self._limit:
            raise ContentMismatchError(f"more than the announced {self._limit} bytes")


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise RefusedError(
            Refusal.ARTIFACT_STORE_UNAVAILABLE, "the artifact store failed; try again"
        ) from error
