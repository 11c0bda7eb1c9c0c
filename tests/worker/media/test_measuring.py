"""What a file is, how large, and how long it plays: files that FFmpeg made, and the simulator's."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from comfy_worker.media import Measures, measure, media_type_of
from comfy_worker.simulator.webm import write_webm

SAMPLES = Path(__file__).parent / "samples"
SECONDS = timedelta(seconds=1.5)


def measure_at(path: Path, media_type: str) -> Measures:
    with path.open("rb") as file:
        return measure(file, media_type)


def type_of(path: Path) -> str:
    return media_type_of(path.read_bytes()[:512], path.name)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("tone.flac", "audio/flac"),
        ("tone.m4a", "audio/mp4"),
        ("tone.mp3", "audio/mpeg"),
        ("tone.opus.ogg", "audio/ogg"),
    ],
)
def test_sound(name: str, media_type: str) -> None:
    path = SAMPLES / name
    assert type_of(path) == media_type
    measures = measure_at(path, media_type)
    assert (measures.width, measures.height) == (0, 0)
    assert measures.duration is not None
    # An MP3 ends with a whole frame.
    assert abs(measures.duration - SECONDS) < timedelta(seconds=0.1)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("clip.mp4", "video/mp4"),
        ("clip.mov", "video/quicktime"),
        ("clip.webm", "video/webm"),
        ("clip.mkv", "video/x-matroska"),
    ],
)
def test_video(name: str, media_type: str) -> None:
    path = SAMPLES / name
    assert type_of(path) == media_type
    assert measure_at(path, media_type) == Measures(48, 32, SECONDS)


def test_a_video_that_does_not_state_its_length_has_none() -> None:
    assert measure_at(SAMPLES / "streamed.mp4", "video/mp4") == Measures(48, 32, None)


@pytest.mark.parametrize("extension", ["webp", "png", "gif"])
def test_animations_play_as_long_as_their_frames(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"animation.{extension}"
    frames = [Image.new("RGB", (32, 24), (40 * index, 0, 90)) for index in range(5)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=120)
    assert type_of(path) == f"image/{extension}"
    assert measure_at(path, f"image/{extension}").duration == timedelta(seconds=0.6)


def test_a_still_picture_does_not_play(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    Image.new("RGB", (8, 8)).save(path)
    assert measure_at(path, "image/png") == Measures()


def test_the_simulators_video_and_its_hole(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 48), (30 * index, 80, 120)) for index in range(6)]
    small, large = tmp_path / "small.webm", tmp_path / "large.webm"
    write_webm(small, frames, 4.0)
    write_webm(large, frames, 4.0, 50_000_000)
    assert type_of(small) == "video/webm"
    assert measure_at(small, "video/webm") == Measures(64, 48, SECONDS)
    assert measure_at(large, "video/webm") == Measures(64, 48, SECONDS)
    assert large.stat().st_size == 50_000_000
    assert large.read_bytes()[: 20 * 1024].startswith(small.read_bytes()[:40])


@pytest.mark.parametrize(
    ("head", "name", "declared", "media_type"),
    [
        (b"glTF\x02\0\0\0", "mesh.glb", "", "model/gltf-binary"),
        (b"v 0 0 0", "mesh.OBJ", "", "model/obj"),
        (b"PK\x03\x04", "scene.usdz", "", "model/vnd.usdz+zip"),
        (b"PK\x03\x04", "archive", "", "application/zip"),
        (b"\x89PNG\r\n\x1a\n", "wrong.jpg", "image/jpeg", "image/png"),
        (b"hello", "note.txt", "", "text/plain"),
        (b"<svg>", "drawing.svg", "", "image/svg+xml"),
        (b"<script>", "page.html", "text/html", "application/octet-stream"),
        (b"alert(1)", "code.js", "", "application/octet-stream"),
        (b"\0\0", "blob.nosuch", "", "application/octet-stream"),
        (b"\0\0", "blob.nosuch", "chemical/x-pdb", "chemical/x-pdb"),
        (b"", "", "", "application/octet-stream"),
    ],
)
def test_the_content_decides_then_the_name_then_what_was_said(
    head: bytes, name: str, declared: str, media_type: str
) -> None:
    assert media_type_of(head, name, declared) == media_type


@given(st.sampled_from(sorted(SAMPLES.iterdir())), st.data())
def test_damaged_files_measure_something_or_nothing(sample: Path, data: st.DataObject) -> None:
    content = bytearray(sample.read_bytes())
    media_type = media_type_of(bytes(content[:512]), sample.name)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    measures = measure(io.BytesIO(content), media_type)
    assert measures.width >= 0
    assert measures.duration is None or measures.duration > timedelta(0)
