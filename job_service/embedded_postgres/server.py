"""Runs an embedded PostgreSQL for as long as a context manager is open."""

import asyncio
import logging
import shutil
import signal
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import psycopg
from sqlalchemy import URL
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from job_service.embedded_postgres import cluster
from job_service.embedded_postgres.cluster import EmbeddedPostgresError, Programs
from job_service.embedded_postgres.identity import Identity, choose_identity

logger = logging.getLogger(__name__)

DATABASE = "generation_jobs"
READY = "database system is ready to accept connections"
STILL_ATTACHED = "pre-existing shared memory block"
# Recovery after a crash replays at most one checkpoint interval of log.
START_SECONDS = 120
STOP_SECONDS = 30
LOG_LINE_LIMIT = 1024 * 1024
# The rest, FATAL too, which ends one connection, is for debugging; PANIC ends the server.
LEVELS = {"WARNING": logging.WARNING, "PANIC": logging.ERROR}

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_destination": "stderr",
    "log_line_prefix": "",
    # Errors go to the client that made them; here they would only spill prompts into the log.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class _StillAttachedError(EmbeddedPostgresError):
    """Backends of a killed server are still on their way out."""


class EmbeddedPostgres:
    """A PostgreSQL server in ``directory``, running while this context manager is open.

    The directory is created when it is missing and belongs to one process at a time. The server
    listens on a Unix socket that only this user can reach, and on no network port. When this
    process dies without closing, the kernel stops the server (Linux); whatever is left running
    is stopped by the next start, which finds every committed row.

    Args:
        directory: holds the data; made with its parents.
        durable: ``False`` skips fsync, for tests only: a crash may lose everything.
        identity: who runs it; by default this user, or for root whatever the system allows.
        programs: which PostgreSQL; by default the newest that is installed with us.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        identity: Identity | None = None,
        programs: Programs | None = None,
    ) -> None:
        self._directory = directory.expanduser().absolute()
        self._durable = durable
        self._identity = identity
        self._programs = programs
        self._cluster = self._directory / "cluster"
        self._resources = AsyncExitStack()
        self._recent: deque[str] = deque(maxlen=20)
        self._url: URL | None = None
        self._ended: asyncio.Task[int] | None = None

    async def __aenter__(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            EmbeddedPostgresError: it cannot run, or another process uses the directory.
        """
        try:
            async with self._resources:
                self._resources.enter_context(cluster.exclusive(self._directory))
                preparing = asyncio.create_task(asyncio.to_thread(self._prepare))
                # A thread cannot be cancelled: the directory is kept until it is done.
                self._resources.push_async_callback(asyncio.wait, (preparing,))
                programs, identity, socket = await asyncio.shield(preparing)
                if socket.parent != self._directory:
                    self._resources.callback(shutil.rmtree, socket, ignore_errors=True)
                async for attempt in AsyncRetrying(
                    retry=retry_if_exception_type(_StillAttachedError),
                    stop=stop_after_delay(STOP_SECONDS),
                    wait=wait_fixed(0.2),
                    reraise=True,
                ):
                    with attempt:
                        await self._start(programs, identity, socket)
                self._url = await _ensure_database(socket)
                self._resources = self._resources.pop_all()
        except (OSError, LookupError, psycopg.Error) as error:
            raise EmbeddedPostgresError(f"cannot run PostgreSQL: {error}") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect every client, stop the server and let go of the directory."""
        self._url = None
        await self._resources.aclose()

    @property
    def url(self) -> str:
        """Where to connect, in SQLAlchemy's form ``postgresql+psycopg://…``."""
        if self._url is None:
            raise RuntimeError("the embedded PostgreSQL is not running")
        return self._url.render_as_string(hide_password=False)

    async def wait(self) -> int:
        """Wait until the server has ended, for whatever reason, and answer its exit code."""
        if self._ended is None:
            raise RuntimeError("the embedded PostgreSQL is not running")
        return await asyncio.shield(self._ended)

    def _prepare(self) -> tuple[Programs, Identity, Path]:
        programs = self._programs or cluster.find_programs()
        # Not at the top: who has a database of their own does without the extra, and so without
        # psutil.
        from job_service.embedded_postgres import leftover  # noqa: PLC0415

        identity = self._identity or choose_identity(programs.postgres)
        identity.reach(programs.postgres)
        identity.reach(self._cluster)
        leftover.end_leftover(self._cluster)
        cluster.initialise(self._cluster, programs, identity, durable=self._durable)
        identity.take_over(self._cluster)
        return programs, identity, cluster.socket_directory(self._directory, identity)

    async def _start(self, programs: Programs, identity: Identity, socket: Path) -> None:
        settings = SETTINGS | ({} if self._durable else THROWAWAY)
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        process = await asyncio.create_subprocess_exec(
            *identity.command(
                programs.postgres, "-D", str(self._cluster), "-k", str(socket), *arguments
            ),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            limit=LOG_LINE_LIMIT,
            env=cluster.environment(),
            umask=0o077,
            # A Ctrl-C in the terminal is for the service, which still needs its database to drain.
            start_new_session=True,
        )
        ready = asyncio.Event()
        self._ended = asyncio.create_task(self._follow(process, ready))
        self._resources.push_async_callback(_stop, process, self._ended)
        came_up = asyncio.create_task(ready.wait())
        await asyncio.wait(
            (came_up, self._ended), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        came_up.cancel()
        if ready.is_set():
            return
        log = "\n".join(self._recent)
        if not self._ended.done():
            raise EmbeddedPostgresError(f"PostgreSQL did not start in {START_SECONDS} s:\n{log}")
        kind = _StillAttachedError if STILL_ATTACHED in log else EmbeddedPostgresError
        raise kind(f"PostgreSQL did not start:\n{log}")

    async def _follow(self, process: Process, ready: asyncio.Event) -> int:
        """Pass on what the server logs, until it has ended; answer its exit code."""
        log = cast("StreamReader", process.stderr)
        self._recent.clear()
        while True:
            try:
                line = await log.readline()
            except ValueError:  # a line beyond the limit, dropped by the reader
                continue
            if not line:
                return await process.wait()
            text = line.decode(errors="replace").rstrip()
            self._recent.append(text)
            if READY in text:
                ready.set()
            severity = text.partition(":")[0]
            logger.log(LEVELS.get(severity, logging.DEBUG), "%s", text)


async def _stop(process: Process, ended: asyncio.Task[int]) -> None:
    """Fast shutdown, then without a checkpoint, then by force."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if ended.done():
            return
        process.send_signal(how)
        await asyncio.wait((ended,), timeout=STOP_SECONDS)


async def _ensure_database(socket: Path) -> URL:
    server = URL.create(
        "postgresql",
        username=cluster.SUPERUSER,
        database="postgres",
        query={"host": str(socket), "port": "5432"},
    )
    connection = await psycopg.AsyncConnection.connect(
        server.render_as_string(hide_password=False), autocommit=True
    )
    async with connection:
        found = await connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
        if found.rowcount == 0:
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    return server.set(drivername="postgresql+psycopg", database=DATABASE)
