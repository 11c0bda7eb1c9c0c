"""One output of a prompt as a file of this machine: fetched, and known for what it is."""

import asyncio
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final, TypeAlias

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from comfy_worker.comfyui import (
    ComfyBackend,
    ComfyError,
    ComfyUnreachableError,
    Download,
    OutputFile,
    OutputMissingError,
    OutputText,
    OutputTooLargeError,
    SentPicture,
)
from comfy_worker.media import Measures, measure, media_type_of
from comfy_worker.thumbnails import Picture, in_picture_thread, read_picture

_FETCH_SECONDS: Final = 60.0
_LONGEST_NAME: Final = 255
_HEAD_BYTES: Final = 512

Output: TypeAlias = OutputFile | OutputText | SentPicture
"""In ComfyUI's folders, in its history, or sent over the WebSocket."""


@dataclass(frozen=True, slots=True)
class FetchedOutput:
    """``size`` in bytes, ``sha256`` as 32 bytes; the measures of pictures are in ``picture``.

    ``content`` is None when the file is large, and on disk.
    """

    size: int
    sha256: bytes
    media_type: str
    measures: Measures
    picture: Picture | None
    content: bytes | None


def name_of(output: Output) -> str:
    """Return the file name of an output, without folders, at most 255 characters."""
    match output:
        case OutputFile(filename=name) | OutputText(filename=name):
            pass
        case SentPicture(path=path):
            name = path.name
    # ComfyUI on Windows names folders with backslashes.
    return PureWindowsPath(name).name[-_LONGEST_NAME:]


async def fetch_output(
    output: Output, path: Path, backend: ComfyBackend, *, max_bytes: int, most_in_memory: int
) -> FetchedOutput:
    """Bring an output into memory, or when it is larger than that to ``path``, and look at it.

    Raises OutputMissingError, also for an empty file, OutputTooLargeError,
    ComfyUnreachableError and UnexpectedAnswerError.
    """
    match output:
        case OutputFile():
            found = await _download(output, path, backend, max_bytes, most_in_memory)
        case OutputText(text=text):
            content = text.encode(errors="replace")
            digest = hashlib.sha256(content).digest()
            found = Download(len(content), digest, "text/plain", content)
        case SentPicture(path=kept):
            found = await asyncio.to_thread(_take_over, kept, path, most_in_memory)
    if found.size == 0:
        raise OutputMissingError(f"{name_of(output)!r} is empty")
    if found.size > max_bytes:
        raise OutputTooLargeError(f"{name_of(output)!r} exceeds {max_bytes} bytes")
    if isinstance(output, OutputText):
        return FetchedOutput(
            found.size, found.sha256, found.media_type, Measures(), None, found.content
        )
    return await in_picture_thread(_describe, output, path, found)


async def fetch_early(
    file: OutputFile, backend: ComfyBackend, *, most_bytes: int
) -> FetchedOutput | None:
    """Bring an output that may not be the last word into memory; None when that does not work."""
    nowhere = Path()  # nothing is larger than what goes into memory
    try:
        found = await backend.fetch(file, nowhere, max_bytes=most_bytes, most_in_memory=most_bytes)
    except ComfyError:
        return None
    return await in_picture_thread(_describe, file, nowhere, found) if found.size else None


async def _download(
    file: OutputFile, path: Path, backend: ComfyBackend, max_bytes: int, most_in_memory: int
) -> Download:
    """Fetch a file, also from a ComfyUI that is just being restarted: its files stay."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(ComfyUnreachableError),
        wait=wait_random_exponential(multiplier=0.2, max=5.0),
        stop=stop_after_delay(_FETCH_SECONDS),
        reraise=True,
    ):
        with attempt:
            return await backend.fetch(
                file, path, max_bytes=max_bytes, most_in_memory=most_in_memory
            )
    raise AssertionError  # pragma: no cover - tenacity re-raises the last error


def _take_over(kept: Path, path: Path, most_in_memory: int) -> Download:
    size = kept.stat().st_size
    content: bytes | None = None
    if size <= most_in_memory:
        content = kept.read_bytes()
        kept.unlink()
        digest = hashlib.sha256(content).digest()
    else:
        kept.replace(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    return Download(size, digest, "", content)


def _describe(output: Output, path: Path, found: Download) -> FetchedOutput:
    with path.open("rb") if found.content is None else io.BytesIO(found.content) as file:
        media_type = media_type_of(file.read(_HEAD_BYTES), name_of(output), found.media_type)
        measures, picture = measure(file, media_type), read_picture(file)
    return FetchedOutput(found.size, found.sha256, media_type, measures, picture, found.content)
