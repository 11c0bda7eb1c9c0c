"""Files out and in: the statuses and names of recordings 10 and 16."""

import io
import json
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from comfy_worker.simulator import Simulator
from tests.worker.simulator.client import Client, images, plain_image


@pytest.fixture
def output(simulator: Simulator) -> Path:
    directory = simulator.settings.output_directory
    assert directory is not None
    (directory / "sub").mkdir()
    Image.new("RGBA", (32, 32), (10, 20, 30, 128)).save(directory / "sub" / "a.png")
    Image.new("RGBA", (32, 32), (10, 20, 30, 128)).save(directory / "rgba.png")
    (directory / "note.txt").write_text("x")
    (directory / "page.html").write_text("<script>1</script>")
    (directory.parent / "secret.txt").write_text("secret")
    (directory / "link").symlink_to(directory.parent / "secret.txt")
    return directory


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("filename=rgba.png", 200),
        ("filename=rgba.png&type=output", 200),
        ("filename=rgba.png&type=input", 404),
        ("filename=rgba.png&type=bogus", 400),
        ("filename=a.png&subfolder=sub", 200),
        ("filename=sub/a.png", 404),
        ("filename=rgba.png&subfolder=sub/..", 200),
        ("filename=nope.png", 404),
        ("filename=", 400),
        ("", 404),
        ("filename=rgba.png%20[output]", 200),
        ("filename=rgba.png%20[temp]", 404),
        ("filename=../secret.txt", 400),
        ("filename=..%2Fsecret.txt", 400),
        ("filename=..%252Fsecret.txt", 400),
        ("filename=/etc/passwd", 400),
        ("filename=x..png", 400),
        ("filename=..%5Csecret.txt", 400),
        ("filename=%00", 404),
        ("filename=secret.txt&subfolder=..", 403),
        ("filename=passwd&subfolder=/etc", 403),
        ("filename=secret.txt&subfolder=sub/../..", 403),
        ("filename=link", 200),
        ("filename=note.txt&preview=webp", 500),
    ],
)
async def test_view_answers_with_the_recorded_status(
    query: str, status: int, client: Client, output: Path
) -> None:
    assert await client.status(f"/view?{query}") == status
    assert await client.status(f"/api/view?{query}") == status


@pytest.mark.parametrize(
    ("query", "content_type", "mode"),
    [
        ("preview=webp;90", "image/webp", "RGBA"),
        ("preview=jpeg", "image/jpeg", "RGB"),
        ("preview=jpeg;80", "image/jpeg", "RGB"),
        ("preview=gif;10", "image/webp", "RGBA"),
        ("channel=rgb", "image/png", "RGB"),
        ("channel=a", "image/png", "RGBA"),
        ("channel=bogus", "image/png", "RGBA"),
    ],
)
async def test_view_converts(
    query: str, content_type: str, mode: str, client: Client, output: Path
) -> None:
    async with client.http.get(f"/view?filename=rgba.png&{query}") as response:
        assert response.headers["Content-Type"] == content_type
        with Image.open(io.BytesIO(await response.read())) as image:
            assert (image.mode, image.size) == (mode, (32, 32))


async def test_view_hides_active_content_and_serves_ranges(client: Client, output: Path) -> None:
    async with client.http.get("/view?filename=page.html") as response:
        assert response.headers["Content-Type"] == "application/octet-stream"
    headers = {"Range": "bytes=0-9"}
    async with client.http.get("/view?filename=rgba.png", headers=headers) as response:
        assert response.status == 206
        assert len(await response.read()) == 10


async def upload(
    client: Client, content: bytes, filename: str | None = "u.png", path: str = "image", **more: str
) -> tuple[int, dict[str, str]]:
    form = aiohttp.FormData(quote_fields=False)
    if filename is not None:
        form.add_field("image", content, filename=filename, content_type="image/png")
    for name, value in more.items():
        form.add_field(name, value)
    async with client.http.post(f"/upload/{path}", data=form) as response:
        text = await response.text()
        return response.status, json.loads(text) if response.status == 200 else {}


async def test_uploads_keep_what_is_there_unless_told_otherwise(client: Client) -> None:
    names = [
        (await upload(client, content, **more))[1]["name"]
        for content, more in (
            (b"1", {}),
            (b"1", {}),
            (b"2", {}),
            (b"2", {}),
            (b"3", {"overwrite": "true"}),
            (b"4", {"overwrite": "1"}),
            (b"5", {"overwrite": "false"}),
        )
    ]

    assert names == ["u.png", "u.png", "u (1).png", "u (1).png", "u.png", "u.png", "u (2).png"]


async def test_uploads_go_where_they_are_sent(client: Client) -> None:
    status, answer = await upload(client, b"x", subfolder="a/b", type="temp")

    assert (status, answer) == (200, {"name": "u.png", "subfolder": "a/b", "type": "temp"})
    assert await client.status("/view?filename=u.png&subfolder=a/b&type=temp") == 200


@pytest.mark.parametrize(
    ("filename", "more", "status"),
    [
        ("u.png", {"type": "bogus"}, 500),
        ("u.png", {"subfolder": ".."}, 400),
        ("u.png", {"subfolder": "../input2"}, 400),
        ("u.png", {"subfolder": "/elsewhere"}, 400),
        ("../u.png", {}, 400),
        (None, {"overwrite": "true"}, 400),
        ("x" * 300 + ".png", {}, 500),
    ],
)
async def test_odd_uploads_are_refused_as_recorded(
    filename: str | None, more: dict[str, str], status: int, client: Client, tmp_path: Path
) -> None:
    assert (await upload(client, b"x", filename, **more))[0] == status
    assert not list(tmp_path.rglob("u.png"))


async def test_a_mask_becomes_the_alpha_channel_of_its_original(
    client: Client, output: Path
) -> None:
    mask = io.BytesIO()
    Image.new("RGBA", (32, 32), (0, 0, 0, 7)).save(mask, format="PNG")
    reference = json.dumps({"filename": "rgba.png", "type": "output"})
    status, answer = await upload(client, mask.getvalue(), path="mask", original_ref=reference)

    assert status == 200
    async with client.http.get("/view", params=answer | {"filename": answer["name"]}) as response:
        with Image.open(io.BytesIO(await response.read())) as image:
            assert image.getpixel((5, 5)) == (10, 20, 30, 7)
    assert (await upload(client, mask.getvalue(), path="mask"))[0] == 500


async def test_an_uploaded_picture_can_be_loaded(client: Client) -> None:
    content = io.BytesIO()
    Image.new("RGB", (24, 16), (1, 2, 3)).save(content, format="PNG")
    _, answer = await upload(client, content.getvalue(), "mine.png")
    graph = plain_image()
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": answer["name"]}}

    (file,) = images(await client.run(graph))
    with Image.open(io.BytesIO(await client.file(file))) as image:
        assert (image.size, image.getpixel((0, 0))) == ((24, 16), (1, 2, 3))
    # Another file under the same name is another input.
    await upload(client, b"not a picture", "mine.png", overwrite="true")
    entry = await client.run(graph)
    assert entry["status"]["messages"][-1][1]["exception_type"].endswith("UnidentifiedImageError")
