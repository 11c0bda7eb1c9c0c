"""The media type of a file, by its first bytes and then by its name. Pure."""

import mimetypes
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

UNKNOWN: Final = "application/octet-stream"

_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\x76\x2f\x31\x01", "image/x-exr"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"glTF", "model/gltf-binary"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
)
_WEBM: Final = re.compile(rb"\x42\x82.{1,8}?webm", re.DOTALL)
"""The element DocType (RFC 8794), its size, and what it says."""
_RIFF_FORMS: Final[Mapping[bytes, str]] = {
    b"WEBP": "image/webp",
    b"WAVE": "audio/wav",
    b"AVI ": "video/x-msvideo",
}
_OGG_CODECS: Final = ((b"\x80theora", "video/ogg"), (b"\x01video", "video/ogg"))
_ISO_BRANDS: Final[Mapping[bytes, str]] = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
# What its content alone does not tell, or Python's own table may lack.
_EXTENSIONS: Final[Mapping[str, str]] = {
    ".mp3": "audio/mpeg",
    ".aac": "audio/aac",
    ".opus": "audio/ogg",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".obj": "model/obj",
    ".stl": "model/stl",
    ".ply": "application/x-ply",
    ".usdz": "model/vnd.usdz+zip",
    ".fbx": UNKNOWN,
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".srt": "application/x-subrip",
    ".json": "application/json",
    ".webp": "image/webp",
    ".safetensors": UNKNOWN,
    ".latent": UNKNOWN,
}
# A browser would run them; ComfyUI itself serves them as unknown (recording 10).
_ACTIVE: Final = frozenset(
    {"text/html", "application/xhtml+xml", "text/javascript", "application/javascript", "text/css"}
)
_SHARED_CONTAINERS: Final = frozenset({"application/zip"})


def media_type_of(head: bytes, filename: str, declared: str = "") -> str:
    """Name the type of a file that begins with ``head``, about 500 bytes of it.

    The content decides where it has a known beginning, the extension where it has none, or one
    that many types share; what is neither is what it was ``declared`` to be.
    """
    by_content = _by_content(head)
    if by_content is not None and by_content not in _SHARED_CONTAINERS:
        return by_content
    by_name = _by_name(filename)
    if by_name != UNKNOWN:
        return by_name
    return by_content or ("" if declared in _ACTIVE else declared) or UNKNOWN


def _by_content(head: bytes) -> str | None:
    found: str | None = None
    if head[:4] == b"RIFF":
        found = _RIFF_FORMS.get(head[8:12])
    elif head[4:8] == b"ftyp":
        found = _ISO_BRANDS.get(head[8:12], "video/mp4")
    elif head[:4] == b"OggS":
        codecs = (kind for mark, kind in _OGG_CODECS if mark in head)
        found = next(codecs, "audio/ogg")
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        found = "video/webm" if _WEBM.search(head) else "video/x-matroska"
    elif head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"}:
        found = "audio/aiff"
    else:
        found = next((kind for mark, kind in _BEGINNINGS if head.startswith(mark)), None)
    return found


def _by_name(filename: str) -> str:
    extension = PurePosixPath(filename).suffix.lower()
    kind = _EXTENSIONS.get(extension) or mimetypes.guess_type(f"x{extension}")[0] or UNKNOWN
    return UNKNOWN if kind in _ACTIVE else kind
