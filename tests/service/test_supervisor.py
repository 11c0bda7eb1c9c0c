"""The all-in-one's supervisor: parts end in order, and never one without the others."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from job_service.all_in_one.supervisor import Supervisor
from job_service.cannot_run import CannotRunError

PART = """
import signal, sys
name, log, stubborn = sys.argv[1:]
def end(*_):
    with open(log, "a") as ended:
        print(name, file=ended)
    if stubborn == "no":
        sys.exit(0)
signal.signal(signal.SIGTERM, end)
print(name, "is up", flush=True)
while True:
    signal.pause()
"""
FAILING = "import sys; print('no disk left'); sys.exit(7)"


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """Where parts write their names when they are told to end."""
    return tmp_path / "ended"


async def _start(supervisor: Supervisor, name: str, ended: Path, stubborn: str = "no") -> None:
    command = [sys.executable, "-c", PART, name, str(ended), stubborn]
    child = await supervisor.start(name, command, os.environ, stop_seconds=0.5)
    await child.says(f"{name} is up")


async def test_parts_are_stopped_one_after_the_other_last_first(
    tmp_path: Path, ended: Path
) -> None:
    async with Supervisor(tmp_path) as supervisor:

        async def work() -> str:
            for name in ("database", "service", "worker"):
                await _start(supervisor, name, ended)
            return "done"

        assert await supervisor.run(work()) == "done"

    assert ended.read_text().split() == ["worker", "service", "database"]
    assert (tmp_path / "worker.log").read_text() == "worker is up\n"


async def test_a_part_that_ends_by_itself_ends_the_work_and_is_quoted(
    tmp_path: Path, ended: Path
) -> None:
    async def work() -> None:
        await _start(supervisor, "service", ended)
        await supervisor.start(
            "worker", [sys.executable, "-c", FAILING], os.environ, stop_seconds=1
        )
        await asyncio.Event().wait()

    with pytest.raises(CannotRunError) as failure:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.run(work())

    assert "worker ended with exit code 7" in str(failure.value)
    assert "no disk left" in str(failure.value)
    assert str(tmp_path / "worker.log") in str(failure.value)
    assert ended.read_text().split() == ["service"]


async def test_a_signal_ends_the_work_and_the_parts(tmp_path: Path, ended: Path) -> None:
    async def work() -> bool:
        await _start(supervisor, "service", ended)
        os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.Event().wait()

    async with Supervisor(tmp_path) as supervisor:
        assert await supervisor.run(work()) is None

    assert ended.read_text().split() == ["service"]


async def test_a_part_that_does_not_end_is_made_to(tmp_path: Path, ended: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.run(_start(supervisor, "stubborn", ended, "yes"))

    assert ended.read_text().split() == ["stubborn"]


async def test_the_log_keeps_every_line_and_the_echo_names_the_part(tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []
    talk = "print('x' * 3_000_000); [print(n) for n in range(1000)]; import time; time.sleep(60)"

    def echo(name: str, line: str) -> None:
        shown.append((name, line))

    async with Supervisor(tmp_path, echo) as supervisor:

        async def work() -> None:
            child = await supervisor.start(
                "talker", [sys.executable, "-u", "-c", talk], os.environ, stop_seconds=1
            )
            await child.says("999")

        await supervisor.run(work())

    lines = [f"{number}" for number in range(1000)]
    assert (tmp_path / "talker.log").read_text().splitlines()[-1000:] == lines
    assert shown[-1000:] == [("talker", line) for line in lines]
