"""Small WebP copies of pictures."""

import asyncio
import io
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeVar

from PIL import Image, ImageOps

Result = TypeVar("Result")

SIZES: Final = (150, 300, 600)
"""Lengths in pixels that the longer side is fitted into."""

_QUALITY: Final = 85
_EFFORT: Final = 0
"""Of 0 to 6: a quarter of the time of Pillow's default, and less than two thirds of that of 2. They
look the same (0.1 dB); files are a tenth larger."""
_MOST_PIXELS: Final = 8192 * 8192
_THREADS: Final = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="thumbnails")
"""Of their own: many large pictures at once hold up no reading and writing of files."""
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
_UNREADABLE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Warning,  # of Pillow, where warnings are errors
)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """``size`` is the one of :data:`SIZES` asked for; width and height are the real ones."""

    size: int
    width: int
    height: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture file measures in pixels, and its thumbnails, smallest first."""

    width: int
    height: int
    thumbnails: tuple[Thumbnail, ...]


async def in_picture_thread(work: Callable[..., Result], *arguments: Any) -> Result:
    """Run what reads pictures in one of the threads for that."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *arguments)


def read_picture(file: BinaryIO, sizes: Sequence[int] = SIZES) -> Picture | None:
    """Measure the picture in ``file`` and make its thumbnails; blocks.

    None for what is no picture, is damaged, or has more than 8192 by 8192 pixels: a small
    file can unpack to any size. Of animations the first frame counts. Nothing is enlarged.
    """
    try:
        file.seek(0)
        with Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > _MOST_PIXELS:
                return None
            image.draft("RGB", (2 * max(sizes), 2 * max(sizes)))
            copy = ImageOps.exif_transpose(_with_plain_colours(image))
    except _UNREADABLE:
        return None
    longer = max(copy.size)
    full_width, full_height = copy.size
    thumbnails: list[Thumbnail] = []
    for size in sorted(sizes, reverse=True):
        scale = min(size / longer, 1.0)
        fitted = (max(round(full_width * scale), 1), max(round(full_height * scale), 1))
        if thumbnails and fitted == copy.size:
            content = thumbnails[-1].content
        else:
            # From the next larger one: a third of the work of starting over. Hamming takes less
            # than half the time of Lanczos; WebP loses far more than the difference (under 0.6 of
            # 38 dB). Of what is twice the size, the mean of four pixels is as good.
            gap = 1.0 if thumbnails else 2.0
            copy = copy.resize(fitted, Image.Resampling.HAMMING, reducing_gap=gap)
            content = _webp(copy)
        thumbnails.append(Thumbnail(size, *fitted, content))
    return Picture(width, height, tuple(reversed(thumbnails)))


def _with_plain_colours(image: Image.Image) -> Image.Image:
    """Return the first frame as RGB, or as RGBA where anything is transparent."""
    if image.mode.startswith("I"):
        return image.point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _webp(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_QUALITY, method=_EFFORT)
    return target.getvalue()
