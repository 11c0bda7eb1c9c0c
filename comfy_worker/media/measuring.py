"""How large a picture is, and how long sound, video and animations play."""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, Final

from PIL import Image
from tinytag import ParseError, TinyTag, UnsupportedFormatError

from comfy_worker.media.containers import DamagedContainerError, Video, read_mp4, read_webm

_ANIMATED: Final = frozenset({"image/png", "image/gif", "image/webp", "image/avif"})
_FORMATS: Final = ("PNG", "GIF", "WEBP", "AVIF")
_MOST_ANIMATION_PIXELS: Final = 2**31
"""Of all frames: Pillow has to unpack them one by one, about 10 s for so many."""
_LONGEST_SECONDS: Final = 10.0 * 365 * 24 * 3600
_VIDEOS: Final[Mapping[str, Callable[[BinaryIO], Video]]] = {
    "video/mp4": read_mp4,
    "video/quicktime": read_mp4,
    "video/webm": read_webm,
    "video/x-matroska": read_webm,
}
_UNREADABLE: Final = (
    DamagedContainerError,
    ParseError,
    UnsupportedFormatError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
    Warning,  # of Pillow, where warnings are errors
)


@dataclass(frozen=True, slots=True)
class Measures:
    """Pixels of a video, 0 for what is none; ``duration`` is None for what does not play.

    Pictures are measured with their thumbnails.
    """

    width: int = 0
    height: int = 0
    duration: timedelta | None = None


def measure(file: BinaryIO, media_type: str) -> Measures:
    """Measure a file of this type; blocks. Nothing is known of one that cannot be read."""
    try:
        file.seek(0)
        if media_type in _VIDEOS:
            video = _VIDEOS[media_type](file)
            return Measures(video.width, video.height, _duration(video.seconds))
        if media_type.startswith("audio/"):
            return Measures(duration=_duration(_audio_seconds(file)))
        if media_type in _ANIMATED:
            return Measures(duration=_duration(_animation_seconds(file)))
    except _UNREADABLE:
        return Measures()
    return Measures()


def _audio_seconds(file: BinaryIO) -> float | None:
    return TinyTag.get(file_obj=file, tags=False, duration=True).duration


def _animation_seconds(file: BinaryIO) -> float | None:
    """Add up what each frame is shown for; None for a still picture."""
    with Image.open(file, formats=_FORMATS) as image:
        frames = getattr(image, "n_frames", 1)
        if frames < 2 or frames * image.width * image.height > _MOST_ANIMATION_PIXELS:
            return None
        milliseconds = 0.0
        for frame in range(frames):
            image.seek(frame)
            image.load()
            milliseconds += image.info.get("duration", 0)
        return milliseconds / 1000


def _duration(seconds: float | None) -> timedelta | None:
    if seconds is None or not math.isfinite(seconds) or not 0 < seconds <= _LONGEST_SECONDS:
        return None
    return timedelta(seconds=seconds)
