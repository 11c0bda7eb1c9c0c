"""Takes the files that former paths name into the artifact store.

A file is taken from inside the given folder only, wherever links lead. What is not found, or is
outside, stays a reference. Interrupted, it goes on with those that are still references.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.artifacts.picture import look_at_picture
from job_service.legacy.session import Driver, ImportFailedError, statements
from job_service.store.database import Row, as_json, statement

_BATCH: Final = 200
_AT_ONCE: Final = 8
_BLOCK: Final = 1024 * 1024

_REFERENCES: Final = statement("""
SELECT id, object_key, external_location AS location, content_type, role, thumbnail_size
FROM job_artifacts
WHERE sha256 IS NULL AND job_id IS NOT NULL AND id > :after ORDER BY id LIMIT :most
""")

_TAKEN: Final = statement("""
UPDATE job_artifacts AS artifact SET
    size = file.size, sha256 = decode(file.sha256, 'hex'), content_type = file.content_type,
    width = file.width, height = file.height
FROM jsonb_to_recordset(CAST(:files AS jsonb)) AS file (
    id bigint, size bigint, sha256 text, content_type text, width integer, height integer
)
WHERE artifact.id = file.id
""")


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was found."""

    path: Path
    size: int
    sha256: bytes
    content_type: str
    width: int
    height: int


class _RefusedError(Exception):
    """The path leads out of the folder, or to no file."""


async def ingest(
    driver: Driver, root: Path, store_url: str, say: Callable[[str], None]
) -> dict[str, int]:
    """Take every referenced file that is in ``root``; how many were ingested, missing, refused.

    Raises ImportFailedError when the folder or the store cannot be used, RefusedError with
    ARTIFACT_STORE_UNAVAILABLE when the store fails.
    """
    try:
        folder = await asyncio.to_thread(root.resolve, strict=True)
        objects = ObjectStoreOfArtifacts.from_url(store_url)
    except (OSError, ValueError) as error:
        raise ImportFailedError(f"--artifacts-root: cannot ingest files: {error}") from error
    counts = {"ingested": 0, "missing": 0, "refused": 0}
    after = 0
    while batch := await statements(driver).rows(_REFERENCES, {"after": after, "most": _BATCH}):
        after = batch[-1].id
        await _take_batch(driver, folder, objects, batch, counts)
        say("files: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
    return counts


async def _take_batch(
    driver: Driver,
    folder: Path,
    objects: ObjectStoreOfArtifacts,
    batch: Sequence[Row],
    counts: dict[str, int],
) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def take(row: Row) -> dict[str, object] | None:
        async with room:
            try:
                file = await asyncio.to_thread(_find, folder, row.location, row.content_type)
            except FileNotFoundError:
                counts["missing"] += 1
                return None
            except (_RefusedError, OSError, RuntimeError, ValueError):  # a link to itself
                counts["refused"] += 1
                return None
            await objects.put(
                row.object_key,
                _blocks(file.path),
                size=file.size,
                sha256=file.sha256,
                content_type=file.content_type,
            )
        return {
            "id": row.id,
            "size": file.size,
            "sha256": file.sha256.hex(),
            "content_type": file.content_type,
            "width": file.width,
            "height": file.height,
        }

    taken = [one for one in await asyncio.gather(*map(take, batch)) if one is not None]
    if taken:
        await statements(driver).run(_TAKEN, {"files": as_json(taken)})
        counts["ingested"] += len(taken)


def _find(folder: Path, location: str, content_type: str) -> _File:
    """The file a former path names: as it stands, or else below the folder."""
    stated = Path(location.replace("\\", "/"))
    candidates = [folder / Path(*stated.parts[1:])] if stated.is_absolute() else [folder / stated]
    if stated.is_absolute():
        candidates.insert(0, stated)
    outside = False
    for candidate in candidates:
        try:
            path = candidate.resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not path.is_relative_to(folder) or not path.is_file():
            outside = True
            continue
        return _measure(path, content_type)
    if outside or ".." in stated.parts:
        raise _RefusedError
    raise FileNotFoundError(location)


def _measure(path: Path, content_type: str) -> _File:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
        file.seek(0, io.SEEK_SET)
        picture = look_at_picture(file)
    if picture is not None:
        return _File(
            path, size, digest.digest(), picture.content_type, picture.width, picture.height
        )
    return _File(path, size, digest.digest(), content_type, 0, 0)


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK):
            yield block
