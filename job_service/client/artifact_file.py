"""A file that appears under its name only once all of it is there and right."""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from uuid import uuid4


class IncompleteFileError(Exception):
    """What was written is not what was announced."""


class VerifiedFile:
    """Writes beside ``path`` and takes its name on ``commit``; otherwise leaves nothing.

    A context manager. Raises OSError as files do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{uuid4().hex}.part")
        self._digest = hashlib.sha256()
        self._size = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._file = self._part.open("xb")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open_file.close()
        self._part.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> int:
        """Append ``chunk``; answer how many bytes there are now."""
        self._open_file.write(chunk)
        self._digest.update(chunk)
        self._size += len(chunk)
        return self._size

    def commit(self, *, size: int, sha256: bytes) -> None:
        """Give the file its name, replacing what had it.

        Raises IncompleteFileError unless ``size`` bytes with this digest were written.
        """
        if self._size != size:
            raise IncompleteFileError(f"{self._size} bytes arrived, {size} were announced")
        if self._digest.digest() != sha256:
            raise IncompleteFileError("the bytes that arrived do not have the announced SHA-256")
        self._open_file.flush()
        os.fsync(self._open_file.fileno())
        self._open_file.close()
        self._part.replace(self._path)

    @property
    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("enter the context first")
        return self._file
