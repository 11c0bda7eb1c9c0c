"""A WebM writer (RFC 8794, 9559): pictures as VP8 key frames.

The payload of a lossy WebP is a VP8 key frame, so that Pillow is encoder enough.
"""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image

_QUALITY = 80
_VOID = b"\xec"
_SIZE_BYTES = 8
_TICK = 1_000_000
"""Nanoseconds of a timestamp's unit: a millisecond."""


def write_webm(path: Path, images: Sequence[Image.Image], fps: float, least_bytes: int = 0) -> None:
    """Write the pictures one after the other, filled up to `least_bytes` with a hole.

    The hole is an element that players skip, and takes no room on most file systems.
    """
    width, height = images[0].size
    milliseconds = 1000 / fps
    info = _element(
        b"\x15\x49\xa9\x66",
        _element(b"\x2a\xd7\xb1", struct.pack(">I", _TICK))
        + _element(b"\x44\x89", struct.pack(">d", len(images) * milliseconds))
        + _element(b"\x4d\x80", b"comfy-simulator")
        + _element(b"\x57\x41", b"comfy-simulator"),
    )
    video = _element(b"\xb0", struct.pack(">H", width)) + _element(
        b"\xba", struct.pack(">H", height)
    )
    track = (
        _element(b"\xd7", b"\x01")
        + _element(b"\x73\xc5", b"\x01")
        + _element(b"\x83", b"\x01")
        + _element(b"\x86", b"V_VP8")
        + _element(b"\xe0", video)
    )
    tracks = _element(b"\x16\x54\xae\x6b", _element(b"\xae", track))
    clusters = b"".join(
        _element(
            b"\x1f\x43\xb6\x75",
            _element(b"\xe7", struct.pack(">I", round(index * milliseconds)))
            + _element(b"\xa3", b"\x81\x00\x00\x80" + _key_frame(image)),
        )
        for index, image in enumerate(images)
    )
    head = _element(
        b"\x1a\x45\xdf\xa3",
        _element(b"\x42\x86", b"\x01")
        + _element(b"\x42\xf7", b"\x01")
        + _element(b"\x42\xf2", b"\x04")
        + _element(b"\x42\xf3", b"\x08")
        + _element(b"\x42\x82", b"webm")
        + _element(b"\x42\x87", b"\x02")
        + _element(b"\x42\x85", b"\x02"),
    )
    content = info + tracks + clusters
    segment_head = 4 + _SIZE_BYTES
    void_head = len(_VOID) + _SIZE_BYTES
    hole = max(0, least_bytes - len(head) - segment_head - len(content) - void_head)
    size = len(content) + (void_head + hole if hole else 0)
    with path.open("wb") as file:
        file.write(head + b"\x18\x53\x80\x67" + _size(size) + content)
        if hole:
            _write_hole(file, hole)


def _write_hole(file: BinaryIO, size: int) -> None:
    file.write(_VOID + _size(size))
    file.truncate(file.tell() + size)


def _element(kind: bytes, content: bytes) -> bytes:
    return kind + _size(len(content)) + content


def _size(size: int) -> bytes:
    return (size | 1 << 7 * _SIZE_BYTES).to_bytes(_SIZE_BYTES)


def _key_frame(image: Image.Image) -> bytes:
    """Return the content of the chunk "VP8 " of the picture's WebP."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=0)
    webp = buffer.getvalue()
    place = 12
    while webp[place : place + 4] != b"VP8 ":
        place += 8 + (int.from_bytes(webp[place + 4 : place + 8], "little") + 1) // 2 * 2
    size = int.from_bytes(webp[place + 4 : place + 8], "little")
    return webp[place + 8 : place + 8 + size]
