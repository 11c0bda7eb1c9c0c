"""What a file really is: found by decoding it, not by its name."""

from dataclasses import dataclass
from typing import BinaryIO, Final

from PIL import ExifTags, Image, UnidentifiedImageError

#: Media types by Pillow's names of formats. MPO is what phones write: a JPEG with a second picture
#: behind it, which every reader of JPEGs passes over.
_MEDIA_TYPES: Final = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_TAKEN: Final = "PNG, JPEG, WebP, GIF, BMP or TIFF"
#: A decoded picture takes four bytes for each.
MAX_PIXELS: Final = 8192 * 8192
MAX_SIDE: Final = 16_384
#: Orientations of EXIF under which a picture is shown with its sides exchanged.
_LYING: Final = frozenset((5, 6, 7, 8))


class NotAPictureError(Exception):
    """The file is not a picture that can be used; the message completes "the file …"."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file's media type, and its size in pixels as it is shown."""

    content_type: str
    width: int
    height: int


def read_picture(file: BinaryIO) -> Picture:
    """Decode all of a picture. Raises NotAPictureError.

    Takes up to ``4 * MAX_PIXELS`` bytes and some seconds: not for the event loop.
    """
    try:
        return _read(file)
    except NotAPictureError:
        raise
    except UnidentifiedImageError:
        raise NotAPictureError(f"must be a {_TAKEN} picture") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotAPictureError(f"must have at most {MAX_PIXELS:,} pixels") from None
    # Each of Pillow's decoders has its own way to fail on bytes that make no sense.
    except Exception as error:
        raise NotAPictureError(f"is damaged or cut off: {str(error)[:120]}") from error


def look_at_picture(file: BinaryIO) -> Picture | None:
    """What the head of a file says of the picture in it, animations too; None: it is none."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            return Picture(_MEDIA_TYPES[image.format or ""], *image.size)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        SyntaxError,
        ValueError,
    ):
        return None


def _read(file: BinaryIO) -> Picture:
    with Image.open(file, formats=_FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise NotAPictureError(
                f"must have at most {MAX_PIXELS:,} pixels, has {width:,} by {height:,}"
            )
        if max(width, height) > MAX_SIDE:
            raise NotAPictureError(
                f"must have sides of at most {MAX_SIDE:,} pixels, has {width:,} by {height:,}"
            )
        if image.format != "MPO" and getattr(image, "is_animated", False):
            raise NotAPictureError("must be a single picture, is an animation")
        content_type = _MEDIA_TYPES[image.format or ""]
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        image.load()
    if orientation in _LYING:
        width, height = height, width
    return Picture(content_type, width, height)
