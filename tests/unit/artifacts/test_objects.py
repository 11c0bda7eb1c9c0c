"""Objects in the artifact store: what is kept beside their bytes."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from job_service.artifacts.objects import ContentMismatchError, ObjectStoreOfArtifacts

#: In one piece, and in parts.
SIZES = [7, 6 * 1024 * 1024]


async def _put(objects: ObjectStoreOfArtifacts, content: bytes, announced: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 2**18):
            yield content[start : start + 2**18]

    await objects.put(
        "jobs/1/1/0-output",
        chunks(),
        size=len(announced),
        sha256=hashlib.sha256(announced).digest(),
        content_type="image/webp",
    )


@pytest.mark.parametrize("size", SIZES)
async def test_a_store_that_gives_out_urls_knows_the_content_type(size: int) -> None:
    store = MemoryStore()  # takes attributes as buckets do
    content = bytes(size)
    await _put(ObjectStoreOfArtifacts(store), content, content)
    kept = await obstore.get_async(store, "jobs/1/1/0-output")
    assert kept.attributes == {"Content-Type": "image/webp"}
    assert bytes(await kept.bytes_async()) == content


@pytest.mark.parametrize("size", SIZES)
async def test_a_directory_keeps_the_bytes_alone(tmp_path: Path, size: int) -> None:
    objects = ObjectStoreOfArtifacts.from_url(tmp_path.as_uri())
    content = bytes(size)
    await _put(objects, content, content)
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [content]


@pytest.mark.parametrize("size", SIZES)
async def test_other_bytes_leave_nothing_in_either(tmp_path: Path, size: int) -> None:
    store = MemoryStore()
    for objects in (
        ObjectStoreOfArtifacts(store),
        ObjectStoreOfArtifacts.from_url(tmp_path.as_uri()),
    ):
        with pytest.raises(ContentMismatchError):
            await _put(objects, bytes(size), b"x" * size)
    assert obstore.list(store).collect() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
