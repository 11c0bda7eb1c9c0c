"""Thumbnails fit their sizes, keep what can be seen, and survive any file."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from comfy_worker.thumbnails import Picture, read_picture


def read(path: Path) -> Picture | None:
    with path.open("rb") as file:
        return read_picture(file)


def save(image: Image.Image, path: Path, kind: str, **options: object) -> Path:
    image.save(path, kind, **options)
    return path


def test_three_sizes_smallest_first(tmp_path: Path) -> None:
    path = save(Image.new("RGB", (832, 1216), (200, 30, 40)), tmp_path / "a", "PNG")
    picture = read(path)
    assert picture is not None
    assert (picture.width, picture.height) == (832, 1216)
    assert [(t.size, t.width, t.height) for t in picture.thumbnails] == [
        (150, 103, 150),
        (300, 205, 300),
        (600, 411, 600),
    ]
    for thumbnail in picture.thumbnails:
        with Image.open(io.BytesIO(thumbnail.content)) as image:
            assert image.format == "WEBP"
            assert image.size == (thumbnail.width, thumbnail.height)
            pixel = image.convert("RGB").getpixel((10, 10))
            assert isinstance(pixel, tuple)
            red, green, blue = pixel
            assert abs(red - 200) < 8
            assert abs(green - 30) < 8
            assert abs(blue - 40) < 8


def test_small_pictures_are_not_enlarged(tmp_path: Path) -> None:
    path = save(Image.new("RGB", (64, 96)), tmp_path / "a", "PNG")
    picture = read(path)
    assert picture is not None
    assert {(t.width, t.height) for t in picture.thumbnails} == {(64, 96)}


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("RGBA", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("I;16", "PNG"),
        ("CMYK", "JPEG"),
        ("RGBA", "WEBP"),
        ("P", "GIF"),
        ("RGB", "BMP"),
    ],
)
def test_every_colour_mode(mode: str, kind: str, tmp_path: Path) -> None:
    path = save(Image.new(mode, (700, 350)), tmp_path / "a", kind)
    picture = read(path)
    assert picture is not None
    assert [(t.width, t.height) for t in picture.thumbnails] == [(150, 75), (300, 150), (600, 300)]


def test_transparency_is_kept(tmp_path: Path) -> None:
    path = save(Image.new("RGBA", (200, 200), (0, 0, 0, 0)), tmp_path / "a", "PNG")
    picture = read(path)
    assert picture is not None
    with Image.open(io.BytesIO(picture.thumbnails[0].content)) as image:
        assert image.convert("RGBA").getpixel((5, 5)) == (0, 0, 0, 0)


def test_deep_greys_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = save(Image.new("I;16", (200, 200), 0x4000), tmp_path / "a", "PNG")
    picture = read(path)
    assert picture is not None
    with Image.open(io.BytesIO(picture.thumbnails[0].content)) as image:
        grey = image.convert("L").getpixel((5, 5))
        assert isinstance(grey, int)
        assert abs(grey - 0x40) <= 2


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (100, 100), colour) for colour in ("red", "blue")]
    path = save(frames[0], tmp_path / "a", "WEBP", save_all=True, append_images=frames[1:])
    picture = read(path)
    assert picture is not None
    with Image.open(io.BytesIO(picture.thumbnails[0].content)) as image:
        pixel = image.convert("RGB").getpixel((50, 50))
        assert isinstance(pixel, tuple)
        assert pixel[0] > 200


@pytest.mark.parametrize("side", [8193, 20_000])
def test_a_decompression_bomb_is_not_unpacked(side: int, tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")
    )
    assert read(path) is None


def test_a_cut_picture_is_none(tmp_path: Path) -> None:
    path = save(Image.effect_noise((300, 300), 90), tmp_path / "a", "PNG")
    path.write_bytes(path.read_bytes()[:1000])
    assert read(path) is None


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
@given(
    magic=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0", b"RIFF\0\0\0\0WEBP"]
    ),
    rest=st.binary(max_size=200),
)
def test_anything_else_is_none(magic: bytes, rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(magic + rest)
    assert read(path) is None
