"""A file as the messages of one UploadInput call."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from generation_jobs.v1.generation_job_service_pb2 import InputHeader, UploadInputRequest

_CHUNK_BYTES: Final = 256 * 1024


class InputFile:
    """Reads a file once, a chunk at a time. A context manager; raises OSError as files do.

    ``error`` is why reading stopped early: gRPC says of an iterator that fails only that the call
    was cancelled.
    """

    def __init__(self, path: Path, user_id: str) -> None:
        self._path = path
        self._header = InputHeader(filename=path.name, user_id=user_id)
        self._file: BinaryIO | None = None
        self.error: OSError | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("rb")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    async def messages(self) -> AsyncIterator[UploadInputRequest]:
        """What it is, then its bytes."""
        assert self._file is not None, "enter the context first"
        yield UploadInputRequest(header=self._header)
        try:
            while chunk := await asyncio.to_thread(self._file.read, _CHUNK_BYTES):
                yield UploadInputRequest(chunk=chunk)
        except OSError as error:
            self.error = error
            raise
