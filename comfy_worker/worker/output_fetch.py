"""One output of a prompt as a file of this machine: fetched, and known for what it is."""

import asyncio
import hashlib
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

    ``content`` is None when the file is large, and still on disk.
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
    """Bring an output to ``path``, which is overwritten, and look at it.

    A file of at most ``most_in_memory`` bytes is taken into memory.

    Raises OutputMissingError, also for an empty file, OutputTooLargeError,
    ComfyUnreachableError and UnexpectedAnswerError.
    """
    declared = ""
    match output:
        case OutputFile():
            download = await _download(output, path, backend, max_bytes)
            size, digest = download.size, bytes.fromhex(download.sha256)
            declared = download.media_type
        case OutputText(text=text):
            content = text.encode(errors="replace")
            await asyncio.to_thread(path.write_bytes, content)
            size, digest = len(content), hashlib.sha256(content).digest()
        case SentPicture(path=kept):
            size, digest = await asyncio.to_thread(_take_over, kept, path)
    if size == 0:
        raise OutputMissingError(f"{name_of(output)!r} is empty")
    if size > max_bytes:
        raise OutputTooLargeError(f"{name_of(output)!r} exceeds {max_bytes} bytes")
    return await in_picture_thread(
        _describe, output, path, size, digest, declared, size <= most_in_memory
    )


async def _download(
    file: OutputFile, path: Path, backend: ComfyBackend, max_bytes: int
) -> Download:
    """Fetch a file, also from a ComfyUI that is just being restarted: its files stay."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(ComfyUnreachableError),
        wait=wait_random_exponential(multiplier=0.2, max=5.0),
        stop=stop_after_delay(_FETCH_SECONDS),
        reraise=True,
    ):
        with attempt:
            return await backend.fetch(file, path, max_bytes=max_bytes)
    raise AssertionError  # pragma: no cover - tenacity re-raises the last error


def _take_over(kept: Path, path: Path) -> tuple[int, bytes]:
    kept.replace(path)
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").digest()
    return path.stat().st_size, digest


def _describe(
    output: Output, path: Path, size: int, digest: bytes, declared: str, take: bool
) -> FetchedOutput:
    if isinstance(output, OutputText):
        media_type, measures, picture = "text/plain", Measures(), None
    else:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        media_type = media_type_of(head, name_of(output), declared)
        measures, picture = measure(path, media_type), read_picture(path)
    content = None
    if take:
        content = path.read_bytes()
        path.unlink()
    return FetchedOutput(size, digest, media_type, measures, picture, content)
