"""``genjobs`` as a process of its own, as people and scripts run it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

GENJOBS = Path(sys.executable).with_name("genjobs")


@dataclass(frozen=True)
class Outcome:
    """How a run ended; the texts are what it wrote."""

    code: int | None
    stdout: str
    stderr: str


def environment(address: str, **more: str) -> dict[str, str]:
    """This process's environment, pointed at a service."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GENJOBS_")}
    inherited.pop("COLUMNS", None)
    return {**inherited, "GENJOBS_ADDRESS": address, "PYTHONUTF8": "1", **more}


async def genjobs(address: str, *arguments: str, cwd: Path, **env: str) -> Outcome:
    """Run a command to its end, in ``cwd`` and with the given variables set."""
    process = await asyncio.create_subprocess_exec(
        GENJOBS,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=environment(address, **env),
    )
    try:
        stdout, stderr = await process.communicate()
    finally:
        await _ended(process)
    return Outcome(process.returncode, stdout.decode(), stderr.decode())


@contextlib.asynccontextmanager
async def genjobs_on_terminal(
    address: str, arguments: Sequence[str], cwd: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """Run a command on a terminal of 100 columns; answer it and what it writes there."""
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        GENJOBS,
        *arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env=environment(address, COLUMNS="100", TERM="xterm-256color"),
        start_new_session=True,
    )
    os.close(theirs)
    written = asyncio.StreamReader()
    terminal = os.fdopen(ours, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: _TerminalProtocol(written), terminal
    )
    try:
        yield process, written
    finally:
        await _ended(process)
        transport.close()


class _TerminalProtocol(asyncio.StreamReaderProtocol):
    """A terminal whose last user is gone fails to be read; that is its end of file."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None if isinstance(exc, OSError) else exc)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
