"""``make demo`` and ``make up``, as a newcomer runs them: real processes, a real picture."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from job_service.health_probe import wait_until_serving

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the all-in-one in a directory of its own."""
    processes: list[subprocess.Popen[str]] = []

    def _start(what: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "job_service.all_in_one", what],
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield _start
    for process in processes:
        process.kill()
        process.communicate()


def _wait_until_up(process: "subprocess.Popen[str]", address: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if f"job_service serves on {address}" in line:
            break
    else:
        pytest.fail(f"ended with {process.wait()} before it was up")
    asyncio.run(asyncio.wait_for(wait_until_serving(address), 10))


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_demo_makes_a_picture_and_leaves_nothing_running(tmp_path: Path, start: Start) -> None:
    demo = start("demo", DEMO_WIDTH="832", DEMO_HEIGHT="1216", DEMO_STEPS="5")

    output, _ = demo.communicate(timeout=100)

    assert demo.returncode == 0, output
    assert "What to try next" in output
    pictures = sorted((tmp_path / "demo-output").iterdir())
    assert [path.suffix for path in pictures].count(".png") == 1
    assert [path.suffix for path in pictures].count(".webp") == 3
    with Image.open(next(path for path in pictures if path.suffix == ".png")) as picture:
        assert picture.size == (832, 1216)
    left = [
        process.info
        for process in psutil.process_iter(["cwd", "cmdline"])
        if str(tmp_path) in f"{process.info['cwd']} {process.info['cmdline']}"
    ]
    assert left == []


@pytest.mark.heavy
def test_up_serves_until_it_is_told_to_stop(start: Start, address: str) -> None:
    up = start("up", JOB_SERVICE_LISTEN=address)
    _wait_until_up(up, address)
    parts = psutil.Process(up.pid).children(recursive=True)

    up.send_signal(signal.SIGINT)
    output, _ = up.communicate(timeout=60)

    assert up.returncode == 0, output
    assert len(parts) >= 4
    assert all(_is_gone(part) for part in parts)


@pytest.mark.heavy
def test_up_ends_when_a_part_dies_and_says_which(start: Start, address: str) -> None:
    up = start("up", JOB_SERVICE_LISTEN=address)
    _wait_until_up(up, address)
    parts = psutil.Process(up.pid).children(recursive=True)
    simulator = next(part for part in parts if "comfy-simulator" in " ".join(part.cmdline()))

    simulator.kill()
    output, _ = up.communicate(timeout=60)

    assert up.returncode == 1
    assert "comfy-simulator ended with exit code -9" in output
    assert all(_is_gone(part) for part in parts)


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of such an end")
def test_kill_9_of_up_leaves_nothing_running(start: Start, address: str) -> None:
    up = start("up", JOB_SERVICE_LISTEN=address)
    _wait_until_up(up, address)
    parts = psutil.Process(up.pid).children(recursive=True)

    up.kill()

    _, running = psutil.wait_procs([part for part in parts if not _is_gone(part)], timeout=60)
    assert [part for part in running if not _is_gone(part)] == []


def test_a_second_up_on_the_same_address_is_refused(start: Start, address: str) -> None:
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        up = start("up", JOB_SERVICE_LISTEN=address)
        output, _ = up.communicate(timeout=60)

    assert up.returncode == 1
    assert f"something already listens on {address}" in output


@pytest.mark.parametrize("what", ["demo", "up"])
def test_a_comfyui_that_is_not_there_is_named(start: Start, address: str, what: str) -> None:
    process = start(what, COMFYUI_URL=f"http://{address}", JOB_SERVICE_LISTEN=address)
    output, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    assert f"no ComfyUI answers at http://{address}" in output
    assert "Traceback" not in output
