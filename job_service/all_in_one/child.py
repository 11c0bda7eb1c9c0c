"""A child process: its output collected, its end noticed, its stop orderly."""

import asyncio
import logging
import signal
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Self, cast

from job_service.bound_process import bound_command

LOG_BYTES = 10 * 1024 * 1024
LINE_BYTES = 1024 * 1024
KEPT_LINES = 20


class Child:
    """One part of the whole, running. Made by ``Child.start``."""

    def __init__(self, name: str, process: Process, log_file: Path) -> None:
        self.name = name
        self.ended: asyncio.Task[int]
        self._process = process
        self._log_file = log_file
        self._recent: deque[str] = deque(maxlen=KEPT_LINES)
        self._listeners: list[tuple[str, asyncio.Future[str]]] = []

    @classmethod
    async def start(
        cls,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        log_file: Path,
        echo: Callable[[str, str], None] | None,
    ) -> Self:
        """Start ``command``; what it prints goes to ``log_file``, and line by line to ``echo``."""
        log_file.parent.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *bound_command(*command),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            limit=LINE_BYTES,
            env=environment,
            # Ctrl-C in the terminal comes to us alone; we stop the parts one after the other.
            start_new_session=True,
        )
        child = cls(name, process, log_file)
        child.ended = asyncio.create_task(child._collect(echo), name=name)
        return child

    async def says(self, text: str) -> str:
        """Wait for a line that contains ``text``, unless it was among the last ones already."""
        for line in self._recent:
            if text in line:
                return line
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._listeners.append((text, heard))
        return await heard

    async def stop(self, seconds: float) -> None:
        """Ask it to end, and make it end if it takes longer than that."""
        if not self.ended.done():
            self._process.send_signal(signal.SIGTERM)
            await asyncio.wait((self.ended,), timeout=seconds)
        self.kill()
        await self.ended

    def kill(self) -> None:
        """End it at once."""
        if not self.ended.done() and self._process.returncode is None:
            self._process.kill()

    def failure(self) -> str:
        """Say that it ended, with the last it had to say."""
        lines = "\n".join(f"  {line}" for line in self._recent)
        code = self.ended.result()
        return f"{self.name} ended with exit code {code}:\n{lines}\n(all of it: {self._log_file})"

    async def _collect(self, echo: Callable[[str, str], None] | None) -> int:
        output = cast("StreamReader", self._process.stdout)
        log = RotatingFileHandler(self._log_file, "a", LOG_BYTES, backupCount=1, encoding="utf-8")
        try:
            while line := await _read_line(output):
                text = line.decode(errors="replace").rstrip()
                self._recent.append(text)
                log.emit(logging.LogRecord(self.name, logging.INFO, "", 0, text, None, None))
                if echo is not None:
                    echo(self.name, text)
                for wanted, heard in self._listeners:
                    if wanted in text and not heard.done():
                        heard.set_result(text)
            return await self._process.wait()
        finally:
            log.close()


async def _read_line(output: StreamReader) -> bytes:
    """Read the next line; empty at the end."""
    try:
        return await output.readline()
    except ValueError:
        return b"(a line too long to keep)\n"
