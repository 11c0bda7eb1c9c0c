"""Files of former jobs: taken into the artifact store where they are, references otherwise."""

import hashlib
import io
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from generation_jobs.v1 import artifact_pb2, job_pb2
from PIL import Image

from job_service import server
from tests.jobs_protocol import ProtocolClient, refused
from tests.legacy_import.conftest import Settle
from tests.legacy_import.importing import Move, Outcome
from tests.legacy_import.old_content import OldContent
from tests.legacy_import.old_values import written
from tests.legacy_import.reading import settings_for
from tests.legacy_import.samples import SHAPES, request, sample

pytestmark = pytest.mark.former

SECRET = b"nobody shall read this"


def picture(colour: str, width: int = 32, height: int = 16) -> bytes:
    written_to = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(written_to, "PNG")
    return written_to.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the former system kept its files, and what lies about there and beside it."""
    made = tmp_path / "outputs"
    (made / "2024" / "thumbs").mkdir(parents=True)
    (made / "Füchse").mkdir()
    (made / "a folder.png").mkdir()
    (made / "2024" / "fox_1.png").write_bytes(picture("red"))
    (made / "2024" / "fox_2.png").write_bytes(picture("blue"))
    (made / "2024" / "thumbs" / "fox_1_150.webp").write_bytes(b"a small one")
    (made / "Füchse" / "🦊.png").write_bytes(picture("white"))
    (made / "absolute.png").write_bytes(picture("green"))
    (made / "large.mp4").write_bytes(os.urandom(1 << 20) * 12)
    (made / "empty.png").touch()
    os.mkfifo(made / "pipe.png")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(SECRET)
    (made / "link.png").symlink_to(outside / "secret.png")
    (made / "linked folder").symlink_to(outside)
    (made / "gone.png").symlink_to(outside / "nothing")
    (made / "loop.png").symlink_to(made / "loop.png")
    return made


def content(*files: Sequence[str], thumbnails: Sequence[str] = ()) -> OldContent:
    """A former installation in state A with one completed request for each list of files."""
    shape = SHAPES["A"]
    rows = [
        request(shape, number, prompt=f"files {number}", output_paths=written(list(names)))
        for number, names in enumerate(files, start=1)
    ]
    rows[0] = {**rows[0], "thumbnail_paths": written(list(thumbnails))}
    return replace(sample(shape), requests=rows)


class Gallery:
    """The imported jobs of requests, through our service."""

    def __init__(self, client: ProtocolClient) -> None:
        self._client = client

    async def job(self, request_id: int) -> job_pb2.GenerationJob:
        wanted = job_pb2.JobFilter(legacy_request_id=request_id)
        (found,) = (await self._client.list_jobs(filter=wanted)).jobs
        return await self._client.get(found.id)

    async def read(self, artifact: artifact_pb2.Artifact) -> bytes:
        _, chunks = await self._client.read(artifact.id)
        return b"".join(chunks)

    async def refusal(self, artifact: artifact_pb2.Artifact) -> grpc.StatusCode:
        return (await refused(self._client.read(artifact.id))).status

    async def thumbnail(self, artifact: artifact_pb2.Artifact, size: int) -> bytes:
        _, chunks = await self._client.read(artifact.id, size)
        return b"".join(chunks)


async def gallery(move: Move) -> AsyncIterator[Gallery]:
    async with (
        server.running(settings_for(move.target, move.folder)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Gallery(ProtocolClient(channel))


def files(outcome: Outcome) -> dict[str, int]:
    assert outcome.report is not None
    counted: dict[str, int] = outcome.report["files"]
    return counted


@pytest.mark.heavy
async def test_files_are_ingested_and_read(settle: Settle, root: Path) -> None:
    move = settle(
        content(
            ["2024/fox_1.png", "2024/fox_2.png"],
            ["Füchse/🦊.png"],
            [str(root / "absolute.png")],
            ["large.mp4"],
            ["empty.png"],
            thumbnails=["2024/thumbs/fox_1_150.webp"],
        )
    )
    outcome = move.run("--cutover", "--artifacts-root", str(root))
    assert files(outcome) == {"ingested": 7, "missing": 0, "refused": 0}
    async for shown in gallery(move):
        job = await shown.job(1)
        outputs = [one for one in job.artifacts if one.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT]
        assert [one.filename for one in outputs] == ["fox_1.png", "fox_2.png"]
        for one, colour in zip(outputs, ("red", "blue"), strict=True):
            assert await shown.read(one) == picture(colour)
            assert one.sha256 == hashlib.sha256(picture(colour)).digest()
            assert (one.size, one.content_type) == (len(picture(colour)), "image/png")
            assert (one.width, one.height) == (32, 16)
        assert await shown.thumbnail(outputs[0], 150) == b"a small one"
        for request_id, expected in (
            (2, picture("white")),
            (3, picture("green")),
            (4, (root / "large.mp4").read_bytes()),
            (5, b""),
        ):
            (one,) = (await shown.job(request_id)).artifacts
            assert await shown.read(one) == expected


#: Files that are not taken, and what each counts as: some may be either.
NOT_TAKEN = {
    "../outside/secret.png": "refused",
    "2024/../../outside/secret.png": "refused",
    "linked folder/secret.png": "refused",
    "link.png": "refused",
    "pipe.png": "refused",
    "a folder.png": "refused",
    "/etc/hostname": "refused",
    "loop.png": "refused",
    "absent.png": "missing",
    "gone.png": "missing",
    "2024/fox_1.png/inside.png": "missing",
    "http://127.0.0.1:8188/view?filename=a.png": "missing",
    "x" * 5_000 + ".png": "missing",
}


async def test_what_lies_elsewhere_or_is_no_file_stays_a_reference(
    settle: Settle, root: Path
) -> None:
    move = settle(content(*([name] for name in NOT_TAKEN)))
    outcome = move.run("--cutover", "--artifacts-root", str(root))
    counted = files(outcome)
    assert counted["ingested"] == 0
    assert counted["missing"] + counted["refused"] == len(NOT_TAKEN)
    for path in move.folder.glob("artifacts/**/*"):
        assert not path.is_file() or path.read_bytes() != SECRET
    async for shown in gallery(move):
        for number, name in enumerate(NOT_TAKEN, start=1):
            (one,) = (await shown.job(number)).artifacts
            assert one.external_location == name
            assert await shown.refusal(one) in (
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.FAILED_PRECONDITION,
            )


async def test_files_can_be_ingested_later_and_only_once(settle: Settle, root: Path) -> None:
    move = settle(content(["2024/fox_1.png"], ["absent.png"]))
    without = move.run("--cutover")
    assert without.report is not None
    first = move.run("--cutover", "--artifacts-root", str(root))
    assert files(first)["ingested"] == 1
    (root / "absent.png").write_bytes(picture("black"))
    second = move.run("--cutover", "--artifacts-root", str(root))
    assert files(second)["ingested"] == 1
    third = move.run("--cutover", "--artifacts-root", str(root))
    assert files(third)["ingested"] == 0
    async for shown in gallery(move):
        (one,) = (await shown.job(2)).artifacts
        assert await shown.read(one) == picture("black")
