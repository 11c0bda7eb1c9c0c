"""Uploading pictures with the client and genjobs, and the real service."""

import json
from pathlib import Path

import grpc
import pytest

from job_service.client import JobServiceClient, JobServiceError
from tests.inputs_protocol import noise, picture
from tests.service_fixture import StoredFiles
from tests.unit.client.command import genjobs


async def test_a_picture_is_uploaded_once(
    jobs: JobServiceClient, tmp_path: Path, stored_files: StoredFiles
) -> None:
    content = noise((700, 500))
    (tmp_path / "sketch.png").write_bytes(content)
    asset = await jobs.upload_input(tmp_path / "sketch.png")
    assert (asset.filename, asset.content_type) == ("sketch.png", "image/png")
    assert (asset.width, asset.height, asset.size) == (700, 500, len(content))
    assert await jobs.upload_input(tmp_path / "sketch.png") == asset
    assert stored_files() == [content]


async def test_a_file_that_is_no_picture_or_cannot_be_read(
    jobs: JobServiceClient, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(JobServiceError) as caught:
        await jobs.upload_input(tmp_path / "notes.txt")
    assert caught.value.status is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(FileNotFoundError):
        await jobs.upload_input(tmp_path / "nothing.png")
    with pytest.raises(OSError, match="Input/output error"):
        await jobs.upload_input(Path("/proc/self/mem"))  # opens, but does not read


async def test_genjobs_uploads(service: str, tmp_path: Path) -> None:
    (tmp_path / "sketch.webp").write_bytes(picture("WEBP", (64, 48)))
    told = await genjobs(service, "upload", "sketch.webp", cwd=tmp_path)
    shown = await genjobs(service, "upload", "sketch.webp", "--json", cwd=tmp_path)
    asset = json.loads(shown.stdout)

    assert (told.code, told.stderr) == (0, "")
    assert told.stdout.startswith(f"Input {asset['id']} is sketch.webp, image/webp, 64x48, ")
    assert (asset["width"], asset["height"]) == (64, 48)

    (tmp_path / "notes.txt").write_text("no picture")
    refused = await genjobs(service, "upload", "notes.txt", cwd=tmp_path)
    assert (refused.code, refused.stdout) == (4, "")
    assert "must be a PNG, JPEG, WebP, GIF, BMP or TIFF picture" in refused.stderr


async def test_inputs_that_nothing_uses_are_refused(service: str, tmp_path: Path) -> None:
    (tmp_path / "sketch.png").write_bytes(picture())
    submit = ("submit", "-p", "a lighthouse", "-c", "sdxl.safetensors")
    outcome = await genjobs(service, *submit, "--input", "image=sketch.png", cwd=tmp_path)
    assert outcome.code == 4
    assert "nothing uses them" in outcome.stderr
