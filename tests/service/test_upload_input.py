"""UploadInput: pictures that are what they say, stored once for each user."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from PIL import ExifTags, Image

from job_service.settings import Settings
from tests.inputs_protocol import CHUNK, InputClient, noise, picture
from tests.jobs_protocol import refused
from tests.service_fixture import Sql, StoredFiles


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"max_input_bytes": 4 * 1024**2})


@pytest.fixture
def inputs(channel: grpc.aio.Channel) -> InputClient:
    return InputClient(channel)


async def _rows(sql: Sql) -> int:
    (count,) = await (await sql.execute("SELECT count(*) FROM job_inputs")).fetchone() or (0,)
    return int(count)


async def test_a_picture_is_stored_and_described(
    inputs: InputClient, stored_files: StoredFiles
) -> None:
    content = picture("JPEG", (120, 80))
    stored = await inputs.upload(content, "Me & my cat, 2024 ñ.jpg", chunk=100)

    assert stored.id > 0
    assert (stored.filename, stored.content_type) == ("Me & my cat, 2024 ñ.jpg", "image/jpeg")
    assert (stored.size, stored.width, stored.height) == (len(content), 120, 80)
    assert stored.sha256 == hashlib.sha256(content).digest()
    assert stored.user_id
    assert stored.HasField("created_at")
    assert stored_files() == [content]


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
    ],
)
async def test_the_media_type_is_that_of_the_content_whatever_the_name_says(
    inputs: InputClient, kind: str, content_type: str
) -> None:
    stored = await inputs.upload(picture(kind), "picture.svg")
    assert (stored.content_type, stored.width, stored.height) == (content_type, 64, 40)


async def test_a_photo_taken_sideways_has_the_size_it_is_shown_in(inputs: InputClient) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = await inputs.upload(picture("JPEG", (120, 80), exif=exif))
    assert (stored.width, stored.height) == (80, 120)


async def test_the_same_content_of_a_user_is_stored_once(
    inputs: InputClient, sql: Sql, stored_files: StoredFiles
) -> None:
    content = noise((600, 400))
    first, *others = await asyncio.gather(*(inputs.upload(content, f"{n}.png") for n in range(8)))
    again = await inputs.upload(content, "again.png", chunk=5000)

    assert all(other == first for other in others)
    assert again == first
    assert await _rows(sql) == 1
    assert stored_files() == [content]


async def test_users_do_not_share_their_inputs(
    inputs: InputClient, stored_files: StoredFiles
) -> None:
    content = picture()
    user = str(uuid4())
    mine, theirs = await inputs.upload(content), await inputs.upload(content, user_id=user)
    assert mine.id != theirs.id
    assert theirs.user_id == user
    assert stored_files() == [content, content]


def _animation() -> bytes:
    target = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:])
    return target.getvalue()


def _claiming(width: int, height: int) -> bytes:
    """A small PNG whose header says that it is large."""
    content = bytearray(picture())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = b"\0\0\0\0"
    import zlib  # noqa: PLC0415

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


async def test_what_is_no_usable_picture_is_refused_and_leaves_nothing(
    inputs: InputClient, sql: Sql, stored_files: StoredFiles, subtests: pytest.Subtests
) -> None:
    png, jpeg = picture("PNG", (300, 300)), noise((200, 200))
    cases = {
        "nothing": b"",
        "text": b"This is no picture.",
        "markup": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "an executable": b"\x7fELF" + bytes(1000),
        "only the beginning of a PNG": b"\x89PNG\r\n\x1a\n",
        "a PNG cut off": png[: len(png) // 2],
        "a larger PNG cut off": jpeg[: len(jpeg) * 3 // 4],
        "a JPEG cut off": picture("JPEG", (300, 300))[:-200],
        "a WebP cut off": picture("WEBP", (300, 300), lossless=True)[:-20],
        "a TIFF cut off": picture("TIFF", (300, 300))[:-2000],
        "a PNG with wrong bytes": png[:60] + bytes(40) + png[100:],
        "an animation": _animation(),
        "a decompression bomb": _claiming(30_000, 30_000),
        "a small bomb": _claiming(8192, 8193),
        "a long strip": _claiming(20_000, 10),
        "a header that says more than there is": _claiming(2_000, 2_000),
        "a picture of another kind": picture("PPM"),
    }
    for name, content in cases.items():
        with subtests.test(name):
            error = await refused(inputs.upload(content))
            assert error.status is grpc.StatusCode.INVALID_ARGUMENT
            assert (error.reason, error.fields) == ("INVALID_FIELDS", ("chunk",))
    assert await _rows(sql) == 0
    assert stored_files() == []


async def test_a_picture_that_is_too_large_is_refused_however_much_is_still_being_sent(
    inputs: InputClient, sql: Sql
) -> None:
    """A client that writes to a call that has ended would see INTERNAL (grpc issue 36066)."""
    header = pb.UploadInputRequest(header=pb.InputHeader(filename="picture.png"))
    chunk = pb.UploadInputRequest(chunk=bytes(CHUNK))
    for _ in range(5):
        error = await refused(inputs.send(header, *[chunk] * (24 * 1024**2 // CHUNK)))
        assert error.status is grpc.StatusCode.INVALID_ARGUMENT
        assert error.fields == ("chunk",)
        assert "4,194,304 bytes" in error.message
    assert await _rows(sql) == 0


async def test_a_client_that_sends_without_end_is_cut_off(inputs: InputClient, sql: Sql) -> None:
    sent = 0

    async def endless() -> AsyncIterator[pb.UploadInputRequest]:
        nonlocal sent
        yield pb.UploadInputRequest(header=pb.InputHeader(filename="picture.png"))
        while True:
            sent += CHUNK
            yield pb.UploadInputRequest(chunk=bytes(CHUNK))

    with pytest.raises(grpc.aio.AioRpcError):
        await inputs.stub.UploadInput(endless(), timeout=60)
    assert sent < 128 * 1024**2
    assert await _rows(sql) == 0


async def test_a_bad_upload_names_its_wrong_fields(
    inputs: InputClient, stored_files: StoredFiles
) -> None:
    content = pb.UploadInputRequest(chunk=picture())
    fine = pb.UploadInputRequest(header=pb.InputHeader(filename="a.png"))

    def header(**fields: str) -> pb.UploadInputRequest:
        return pb.UploadInputRequest(header=pb.InputHeader(**{"filename": "a.png", **fields}))

    cases: list[tuple[list[pb.UploadInputRequest], set[str]]] = [
        ([], {"header"}),
        ([content], {"header"}),
        ([pb.UploadInputRequest()], {"header"}),
        ([fine, fine, content], {"chunk"}),
        ([fine, pb.UploadInputRequest()], {"chunk"}),
        ([fine], {"chunk"}),
        ([fine, pb.UploadInputRequest(chunk=bytes(CHUNK + 1))], {"chunk"}),
        ([header(filename=""), content], {"header.filename"}),
        ([header(filename="../a.png"), content], {"header.filename"}),
        ([header(filename="a\\b.png"), content], {"header.filename"}),
        ([header(filename=".."), content], {"header.filename"}),
        ([header(filename="a\0.png"), content], {"header.filename"}),
        ([header(filename="a\n.png"), content], {"header.filename"}),
        ([header(filename="a\x1b[2J.png"), content], {"header.filename"}),
        ([header(filename="a" * 256), content], {"header.filename"}),
        ([header(user_id="me", filename="/"), content], {"header.filename", "header.user_id"}),
    ]
    for messages, fields in cases:
        error = await refused(inputs.send(*messages))
        assert error.status is grpc.StatusCode.INVALID_ARGUMENT
        assert set(error.fields) == fields
    assert stored_files() == []


async def test_an_upload_that_is_given_up_leaves_nothing(
    inputs: InputClient, sql: Sql, stored_files: StoredFiles
) -> None:
    content = noise((300, 300))
    call = inputs.stub.UploadInput(timeout=60)
    await call.write(pb.UploadInputRequest(header=pb.InputHeader(filename="a.png")))
    await call.write(pb.UploadInputRequest(chunk=content[:CHUNK]))
    call.cancel()

    stored = await inputs.upload(content)
    assert await _rows(sql) == 1
    assert stored_files() == [content]
    assert stored.size == len(content)


async def test_a_row_whose_object_was_never_stored_gets_it_with_the_next_upload(
    inputs: InputClient, sql: Sql, stored_files: StoredFiles, tmp_path: Path
) -> None:
    content = picture()
    first = await inputs.upload(content)
    # as a service leaves it that is killed between row and object
    await sql.execute("UPDATE job_inputs SET stored_at = NULL")
    (file,) = (path for path in (tmp_path / "artifacts").rglob("*") if path.is_file())
    file.unlink()

    assert await inputs.upload(content) == first
    assert stored_files() == [content]
