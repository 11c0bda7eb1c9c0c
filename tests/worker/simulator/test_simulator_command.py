"""The command comfy-simulator, as a real process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.worker.simulator.client import Client, images, plain_image, text_to_image

COMMAND = (sys.executable, "-m", "comfy_worker.simulator.cli")
PREFIX = "comfy-simulator listening on "


@asynccontextmanager
async def serving(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode().strip()
        assert line.startswith(PREFIX), line
        yield process, line.removeprefix(PREFIX)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_cleanly_in_the_middle_of_a_run(name: signal.Signals) -> None:
    options = ("--listen", "127.0.0.1:0", "--step-seconds", "60")
    async with serving(*options) as (process, url), Client(url) as client:
        await client.submit(text_to_image(), prompt_id="endless")
        async with asyncio.timeout(10):
            while (await client.socket.receive_json())["type"] != "executing":
                pass
        process.send_signal(name)
        async with asyncio.timeout(10):
            _, errors = await process.communicate()

    assert (process.returncode, errors) == (0, b"")


async def test_a_killed_one_loses_queue_and_history_and_keeps_its_files(tmp_path: Path) -> None:
    options = ("--output-directory", str(tmp_path), "--step-seconds", "0", "--load-seconds", "0")
    first = serving("--listen", "127.0.0.1:0", *options)
    async with first as (process, url), Client(url) as client:
        (file,) = images(await client.run(plain_image(), prompt_id="before"))
        content = await client.file(file)
        process.kill()
        await process.wait()

    listen = url.removeprefix("http://")
    async with serving("--listen", listen, *options) as (_, same_url), Client(same_url) as client:
        assert await client.get("/history/before") == {}
        assert await client.get("/queue") == {"queue_running": [], "queue_pending": []}
        assert await client.file(file) == content
        (newer,) = images(await client.run(plain_image()))
        assert newer["filename"] == "plain_00002_.png"


async def test_models_can_be_named() -> None:
    options = ("--checkpoint", "a.safetensors", "--checkpoint", "b.safetensors", "--lora", "c")
    async with serving("--listen", "127.0.0.1:0", *options) as (_, url), Client(url) as client:
        assert await client.get("/models/checkpoints") == ["a.safetensors", "b.safetensors"]
        assert await client.get("/models/loras") == ["c"]


async def test_a_directory_of_its_own_is_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with serving("--listen", "127.0.0.1:0", "--verbose") as (process, url):
        async with Client(url) as client:
            await client.run(plain_image())
        assert list(tmp_path.rglob("plain_00001_.png"))
        process.terminate()
        await process.communicate()

    assert not os.listdir(tmp_path)  # noqa: PTH208 - nothing at all, also nothing hidden


async def run_to_end(*options: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


@pytest.mark.parametrize("listen", ["8188", ":8188", "host:", "host:x", "127.0.0.1:65536"])
async def test_a_bad_address_is_refused(listen: str) -> None:
    status, errors = await run_to_end("--listen", listen)

    assert status == 2
    assert "is not host:port" in errors
    assert "Traceback" not in errors


async def test_an_address_in_use_is_told() -> None:
    async with serving("--listen", "127.0.0.1:0") as (_, url):
        listen = url.removeprefix("http://")
        status, errors = await run_to_end("--listen", listen)

    assert status == 1
    assert errors.startswith(f"comfy-simulator: cannot serve on {listen}: ")
    assert "Traceback" not in errors
