"""job_service and workers as processes of their own, to be killed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import psutil

from job_service.health_probe import wait_until_serving


def free_address() -> str:
    """An address nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class RealProcess:
    """A console script of this project, started on demand, killed at the latest at the end."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self._command = [str(Path(sys.executable).parent / command[0]), *command[1:]]
        self._environment = os.environ | environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            await self.end(signal.SIGTERM)

    def start(self) -> None:
        """Start it, or start it again after its end."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def seen(self) -> psutil.Process:
        """What the operating system knows of it."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def memory(self) -> int:
        """Bytes of its resident memory now."""
        return int(self.seen().memory_info().rss)

    def peak_memory(self) -> int:
        """Most bytes of resident memory it has ever had (Linux)."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    async def kill(self) -> None:
        """End it as a power cut would: no handler runs."""
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code. Whatever lingers is killed."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(number)
        try:
            code = await asyncio.wait_for(asyncio.to_thread(self._process.wait, 30), 31)
        except (TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            raise
        finally:
            if number is not signal.SIGKILL:
                for child in children:
                    assert not child.is_running(), f"left behind: {child}"
        return code


async def serving(stack: AsyncExitStack, service: RealProcess, address: str) -> None:
    """Run a job_service until the stack ends, and wait until it serves."""
    await stack.enter_async_context(service)
    async with asyncio.timeout(30):
        await wait_until_serving(address)


async def until_serving_again(address: str) -> None:
    """Wait for a service that was started again."""
    async with asyncio.timeout(30):
        await wait_until_serving(address)
