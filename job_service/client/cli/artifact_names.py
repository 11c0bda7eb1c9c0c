"""File names for downloads. What the service sends is never trusted to be one."""

import unicodedata
from pathlib import PurePosixPath

from generation_jobs.v1.artifact_pb2 import Artifact, ArtifactRole

# The shortest limit of common file systems, in bytes of UTF-8.
_LONGEST = 255
# Not allowed by Windows, or read by shells.
_RESERVED = frozenset('<>:"/\\|?*')


def artifact_filename(artifact: Artifact) -> str:
    """Answer ``{job_id}-{position}-{filename}``, for a thumbnail with its size.

    Always one path component of at most 255 bytes that starts with the job's id; different
    for different outputs and thumbnails of a job.
    """
    given = _plain(artifact.filename)
    dot = given.rfind(".")
    stem, suffix = (given[:dot], given[dot:]) if dot > 0 else (given, "")
    if artifact.role == ArtifactRole.ARTIFACT_ROLE_THUMBNAIL:
        if artifact.content_type == "image/webp":
            suffix = ".webp"
        suffix = f"-{artifact.thumbnail_size}px{suffix}"
    suffix = _cut(suffix, 60)
    start = f"{artifact.job_id}-{artifact.position}-"
    stem = _cut(stem, _LONGEST - len(start) - len(suffix.encode()))
    return f"{start}{stem}{suffix}".rstrip(" .")


def _plain(filename: str) -> str:
    name = PurePosixPath(filename.replace("\\", "/")).name
    kept = "".join("_" if _is_unsafe(character) else character for character in name)
    return kept.strip(" .") or "file"


def _is_unsafe(character: str) -> bool:
    if character == " ":
        return False
    # C: control, format (which hides or reorders), surrogate, unassigned; Z: other spaces.
    return character in _RESERVED or unicodedata.category(character)[0] in {"C", "Z"}


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
