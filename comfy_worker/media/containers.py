"""Size and length of videos, out of the boxes of MP4 (ISO/IEC 14496-12) and WebM (RFC 8794, 9559).

Only headers are read, wherever in a file of any size they stand.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

_LARGEST_HEADER: Final = 1024
"""No header read here is larger; a longer one is cut."""
_MOST_BOXES: Final = 10_000

_SEGMENT: Final = 0x18538067
_INFO: Final = 0x1549A966
_TRACKS: Final = 0x1654AE6B
_CLUSTER: Final = 0x1F43B675
_TIMESTAMP_SCALE: Final = 0x2AD7B1
_DURATION: Final = 0x4489
_TRACK: Final = 0xAE
_VIDEO: Final = 0xE0
_PIXEL_WIDTH: Final = 0xB0
_PIXEL_HEIGHT: Final = 0xBA
_DEFAULT_SCALE: Final = 1_000_000
"""Nanoseconds of a tick."""


class DamagedContainerError(ValueError):
    """The file is not built as its type promises."""


@dataclass(frozen=True, slots=True)
class Video:
    """Pixels, 0 where no track has a picture, and seconds, None when not stated."""

    width: int
    height: int
    seconds: float | None


def read_mp4(file: BinaryIO) -> Video:
    """Measure an MP4 or QuickTime file; raises DamagedContainerError and OSError."""
    end = file.seek(0, 2)
    seconds: float | None = None
    size = (0, 0)
    for kind, start, stop in _boxes(file, 0, end):
        if kind != b"moov":
            continue
        for inner, inner_start, inner_stop in _boxes(file, start, stop):
            if inner == b"mvhd":
                seconds = _movie_seconds(_header(file, inner_start, inner_stop))
            elif inner == b"trak" and size == (0, 0):
                size = _track_size(file, inner_start, inner_stop)
    return Video(*size, seconds)


def read_webm(file: BinaryIO) -> Video:
    """Measure a WebM or Matroska file; raises DamagedContainerError and OSError."""
    end = file.seek(0, 2)
    seconds: float | None = None
    width = height = 0
    for segment, start, stop in _elements(file, 0, end):
        if segment != _SEGMENT:
            continue
        for kind, inner_start, inner_stop in _elements(file, start, stop):
            if kind == _INFO:
                seconds = _info_seconds(file, inner_start, inner_stop)
            elif kind == _TRACKS:
                width, height = _video_size(file, inner_start, inner_stop)
            elif kind == _CLUSTER:
                break
        break
    return Video(width, height, seconds)


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box between two places."""
    for _ in range(_MOST_BOXES):
        if stop - start < 8:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        length = 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            length = 16
        elif size == 0:  # up to the end
            size = stop - start
        if size < length:
            raise DamagedContainerError(f"box {kind!r} is smaller than its header")
        yield kind, start + length, min(start + size, stop)
        start += size


def _movie_seconds(header: bytes) -> float | None:
    try:
        if header[:1] == b"\x01":
            scale, ticks = struct.unpack_from(">IQ", header, 20)
            is_unknown = ticks == 2**64 - 1
        else:
            scale, ticks = struct.unpack_from(">II", header, 12)
            is_unknown = ticks == 2**32 - 1
    except struct.error as error:
        raise DamagedContainerError("the movie header is cut") from error
    return None if is_unknown or not scale or not ticks else ticks / scale


def _track_size(file: BinaryIO, start: int, stop: int) -> tuple[int, int]:
    for kind, inner_start, inner_stop in _boxes(file, start, stop):
        if kind == b"tkhd":
            header = _header(file, inner_start, inner_stop)
            offset = 88 if header[:1] == b"\x01" else 76
            if len(header) < offset + 8:
                raise DamagedContainerError("the track header is cut")
            width, height = struct.unpack_from(">II", header, offset)
            return width >> 16, height >> 16
    return 0, 0


def _elements(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield id, start and end of the content of each element between two places."""
    for _ in range(_MOST_BOXES):
        if start >= stop:
            return
        file.seek(start)
        head = file.read(12)
        kind, id_length = _number(head, 0, keep_marker=True)
        size, size_length = _number(head, id_length, keep_marker=False)
        content = start + id_length + size_length
        # An unknown size lasts as long as what it is in: a file that was being streamed.
        end = stop if size == 2 ** (7 * size_length) - 1 else min(content + size, stop)
        yield kind, content, end
        start = end


def _number(head: bytes, offset: int, *, keep_marker: bool) -> tuple[int, int]:
    """Read a number of variable length: the leading zeros of its first byte tell how many."""
    if offset >= len(head) or not head[offset]:
        raise DamagedContainerError("an element has no valid head")
    length = 9 - head[offset].bit_length()
    if offset + length > len(head):
        raise DamagedContainerError("an element's head is cut")
    value = int.from_bytes(head[offset : offset + length])
    return (value if keep_marker else value & ((1 << (7 * length)) - 1)), length


def _info_seconds(file: BinaryIO, start: int, stop: int) -> float | None:
    scale, ticks = _DEFAULT_SCALE, None
    for kind, inner_start, inner_stop in _elements(file, start, stop):
        if kind == _TIMESTAMP_SCALE:
            scale = int.from_bytes(_header(file, inner_start, inner_stop))
        elif kind == _DURATION:
            content = _header(file, inner_start, inner_stop)
            if len(content) in {4, 8}:
                (ticks,) = struct.unpack(">f" if len(content) == 4 else ">d", content)
    return None if ticks is None else ticks * scale / 1e9


def _video_size(file: BinaryIO, start: int, stop: int) -> tuple[int, int]:
    for track, track_start, track_stop in _elements(file, start, stop):
        if track != _TRACK:
            continue
        for kind, inner_start, inner_stop in _elements(file, track_start, track_stop):
            if kind != _VIDEO:
                continue
            sizes = {
                name: int.from_bytes(_header(file, from_, to))
                for name, from_, to in _elements(file, inner_start, inner_stop)
                if name in {_PIXEL_WIDTH, _PIXEL_HEIGHT}
            }
            return sizes.get(_PIXEL_WIDTH, 0), sizes.get(_PIXEL_HEIGHT, 0)
    return 0, 0


def _header(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(min(stop - start, _LARGEST_HEADER))
