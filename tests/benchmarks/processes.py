"""The processes that are measured: servers that stay, and load that comes and goes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from sqlalchemy import URL

from tests.end_to_end.real_processes import RealProcess, free_address, serving

_ROOT: Final = Path(__file__).parents[2]
_SECONDS: Final = 120


class MeasuredProcess(RealProcess):
    """A console script, or a module by ``python -m``, that says what it costs."""

    def cpu_seconds(self) -> float:
        """Processor time it has used, user and system."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system


@dataclass(frozen=True, slots=True)
class Replica:
    """One job_service in a process of its own, and its database."""

    address: str
    database_url: str
    process: MeasuredProcess


async def load(module: str, *arguments: object) -> dict[str, Any]:
    """Run a program of ``load/`` in a process of its own; what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", f"tests.benchmarks.load.{module}", *map(str, arguments)),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            printed, complaints = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, complaints.decode()
    measured: dict[str, Any] = json.loads(printed)
    return measured


@asynccontextmanager
async def database(server: URL, name: str) -> AsyncIterator[str]:
    """A fresh, empty database, as ``postgresql://…``."""
    plain = server.set(drivername="postgresql")
    async with await psycopg.AsyncConnection.connect(
        plain.render_as_string(hide_password=False), autocommit=True
    ) as connection:
        await connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield plain.set(database=name).render_as_string(hide_password=False)
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@asynccontextmanager
async def replica(server: URL, name: str, folder: Path) -> AsyncIterator[Replica]:
    """A job_service on a fresh database."""
    async with database(server, name) as url, replica_on(url, name, folder) as started:
        yield started


@asynccontextmanager
async def replica_on(url: str, name: str, folder: Path) -> AsyncIterator[Replica]:
    """A job_service, perhaps one of several, on a database."""
    address = free_address()
    async with AsyncExitStack() as stack:
        process = MeasuredProcess(
            ["job-service", "serve"],
            folder / f"{name}.log",
            JOB_SERVICE_DATABASE_URL=url,
            JOB_SERVICE_MIGRATE="true",
            JOB_SERVICE_LISTEN=address,
            JOB_SERVICE_DATA_DIR=str(folder / name),
        )
        await serving(stack, process, address)
        yield Replica(address, url, process)


def module_process(module: str, *arguments: object, log: Path) -> MeasuredProcess:
    """A program of ``load/`` that serves until it is ended."""
    command = ["python", "-m", f"tests.benchmarks.load.{module}", *map(str, arguments)]
    path = os.pathsep.join((str(_ROOT), os.environ.get("PYTHONPATH", "")))
    return MeasuredProcess(command, log, PYTHONPATH=path)
