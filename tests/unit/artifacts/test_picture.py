"""Whatever the bytes are, they are a picture or they are refused."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from job_service.artifacts.picture import NotAPictureError, Picture, read_picture
from tests.inputs_protocol import picture

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SEEDS = [picture(kind, (24, 17)) for kind in KINDS]


def _read(content: bytes) -> Picture | NotAPictureError:
    try:
        return read_picture(io.BytesIO(content))
    except NotAPictureError as error:
        return error


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A picture with some bytes changed, moved in, or cut off."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 8))
        content[at : at + length] = draw(st.binary(max_size=8))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


@settings(max_examples=500, deadline=None)
@given(damaged() | st.binary(max_size=200))
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of what it passes over
def test_damaged_bytes_are_a_picture_or_refused(content: bytes) -> None:
    answer = _read(content)
    if isinstance(answer, Picture):
        assert answer.width > 0
        assert answer.height > 0
        assert answer.content_type.startswith("image/")
    else:
        assert str(answer)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pictures_of_every_depth_are_taken(mode: str) -> None:
    target = io.BytesIO()
    Image.new(mode, (10, 20)).save(target, "PNG")
    assert _read(target.getvalue()) == Picture("image/png", 10, 20)


def test_what_phones_write_is_a_jpeg() -> None:
    target = io.BytesIO()
    second = Image.new("RGB", (10, 10), "red")
    Image.new("RGB", (30, 20)).save(target, "MPO", save_all=True, append_images=[second])
    assert _read(target.getvalue()) == Picture("image/jpeg", 30, 20)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_and_files_of_several_pages_are_refused(kind: str) -> None:
    target = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    frames[0].save(target, kind, save_all=True, append_images=frames[1:])
    answer = _read(target.getvalue())
    assert isinstance(answer, NotAPictureError)
    assert "single picture" in str(answer)


def test_a_file_that_ends_with_other_things_is_taken() -> None:
    assert _read(picture("JPEG") + b"trailing") == Picture("image/jpeg", 64, 40)
