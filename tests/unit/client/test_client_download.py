"""A downloaded file is whole and right, or not there."""

import asyncio
from pathlib import Path

import grpc
import pytest
from generation_jobs.v1.generation_job_service_pb2 import ReadArtifactRequest, ReadArtifactResponse

from job_service.client import JobServiceClient, JobServiceError
from tests.unit.client.messages import failure, picture, transfer, unavailable
from tests.unit.client.scripted_service import Hold, ScriptedService

CONTENT = bytes(range(256)) * 3


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_it_is_written_as_announced(
    scripted: ScriptedService, client: JobServiceClient, tmp_path: Path
) -> None:
    scripted.script("ReadArtifact", *transfer(picture(CONTENT), CONTENT, chunk=100))
    counts: list[int] = []

    artifact = await client.download(100, tmp_path / "picture", on_bytes=counts.append)

    assert artifact == picture(CONTENT)
    assert (tmp_path / "picture").read_bytes() == CONTENT
    assert counts == [100, 200, 300, 400, 500, 600, 700, 768]


async def test_an_empty_file_is_a_file(
    scripted: ScriptedService, client: JobServiceClient, tmp_path: Path
) -> None:
    scripted.script("ReadArtifact", *transfer(picture(b""), b""))
    await client.download(100, tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


async def test_a_broken_transfer_begins_anew(
    scripted: ScriptedService, client: JobServiceClient, tmp_path: Path
) -> None:
    messages = transfer(picture(CONTENT), CONTENT, chunk=100)
    scripted.script("ReadArtifact", *messages[:4], unavailable())
    scripted.script("ReadArtifact", *messages)
    await client.download(100, tmp_path / "picture")
    assert names_in(tmp_path) == ["picture"]
    assert (tmp_path / "picture").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "messages",
    [
        transfer(picture(CONTENT), CONTENT[:-1]),
        transfer(picture(CONTENT), CONTENT + b"!"),
        transfer(picture(CONTENT), CONTENT[:-1] + b"!"),
        transfer(picture(CONTENT, sha256=b""), CONTENT),
        transfer(picture(CONTENT), CONTENT)[1:],
        [],
    ],
    ids=["short", "long", "altered", "no digest", "no header", "nothing"],
)
async def test_wrong_bytes_never_take_the_name(
    scripted: ScriptedService,
    client: JobServiceClient,
    tmp_path: Path,
    messages: list[ReadArtifactResponse],
) -> None:
    (tmp_path / "picture").write_bytes(b"the good one")
    scripted.script("ReadArtifact", *messages)

    with pytest.raises(JobServiceError) as caught:
        await client.download(100, tmp_path / "picture")

    assert caught.value.status is grpc.StatusCode.DATA_LOSS
    assert caught.value.reason == "CONTENT_MISMATCH"
    assert names_in(tmp_path) == ["picture"]
    assert (tmp_path / "picture").read_bytes() == b"the good one"


async def test_a_short_file_says_how_short(
    scripted: ScriptedService, client: JobServiceClient, tmp_path: Path
) -> None:
    scripted.script("ReadArtifact", *transfer(picture(CONTENT), CONTENT[:-1]))
    with pytest.raises(JobServiceError, match="767 bytes arrived, 768 were announced"):
        await client.download(100, tmp_path / "picture")


async def test_a_refusal_leaves_nothing(
    scripted: ScriptedService, client: JobServiceClient, tmp_path: Path
) -> None:
    scripted.script(
        "ReadArtifact",
        failure(grpc.StatusCode.NOT_FOUND, "no such artifact", reason="ARTIFACT_NOT_FOUND"),
    )
    with pytest.raises(JobServiceError):
        await client.download(100, tmp_path / "picture")
    assert names_in(tmp_path) == []


async def test_cancelling_leaves_nothing(
    scripted: ScriptedService, client: JobServiceClient, tmp_path: Path
) -> None:
    scripted.script("ReadArtifact", *transfer(picture(CONTENT), CONTENT)[:3], Hold)
    arrived = asyncio.Event()
    download = asyncio.create_task(
        client.download(100, tmp_path / "picture", on_bytes=lambda _: arrived.set())
    )
    await asyncio.wait_for(arrived.wait(), 10)
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    assert names_in(tmp_path) == []


async def test_a_directory_that_is_not_there(
    scripted: ScriptedService, client: JobServiceClient, tmp_path: Path
) -> None:
    scripted.script("ReadArtifact", *transfer(picture(CONTENT), CONTENT))
    with pytest.raises(FileNotFoundError):
        await client.download(100, tmp_path / "missing" / "picture")


async def test_thumbnails_are_asked_for_by_size(
    scripted: ScriptedService, client: JobServiceClient, tmp_path: Path
) -> None:
    scripted.script("ReadArtifact", *transfer(picture(CONTENT), CONTENT))
    await client.download(100, tmp_path / "small", thumbnail_size=300)
    assert scripted.requests["ReadArtifact"] == [
        ReadArtifactRequest(artifact_id=100, thumbnail_size=300)
    ]
