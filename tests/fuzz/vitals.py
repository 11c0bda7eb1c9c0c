"""How a running job_service is: its memory, tasks, files and database connections."""

import asyncio
import json
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import make_url

from tests.end_to_end.real_processes import RealProcess, free_address


@dataclass(frozen=True, slots=True)
class Vitals:
    """``resident``: bytes of memory; ``objects``: those that Python keeps track of.

    ``files``: all that is open, ``callers`` among it: connections of callers. ``busy``: database
    connections that are not idle.
    """

    resident: int
    objects: int
    tasks: Counter[str]
    files: int
    callers: int
    threads: int
    connections: int
    busy: int


class WatchedService:
    """A job_service process on a database, and what can be seen of it from outside."""

    def __init__(self, folder: Path, database_url: str, **environment: str) -> None:
        self.address = free_address()
        self._log = folder / "job_service.log"
        self._report = folder / "vitals.json"
        self._database_url = database_url
        self.process = RealProcess(
            ["python", "-m", "tests.fuzz.watched_service", str(self._report)],
            self._log,
            JOB_SERVICE_LISTEN=self.address,
            JOB_SERVICE_DATA_DIR=str(folder / "data"),
            JOB_SERVICE_DATABASE_URL=database_url,
            JOB_SERVICE_LOG_FORMAT="json",
            **environment,
        )

    async def vitals(self) -> Vitals:
        """How it is now."""
        self._report.unlink(missing_ok=True)
        seen = self.process.seen()
        seen.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(30):
            while not self._report.exists():
                assert self.process.exit_code is None, "the service has ended"
                await asyncio.sleep(0.02)
        states = await self._connection_states()
        said = json.loads(self._report.read_text())
        return Vitals(
            resident=self.process.memory(),
            objects=said["objects"],
            tasks=Counter(said["tasks"]),
            files=seen.num_fds(),
            callers=sum(
                one.status != psutil.CONN_LISTEN and f"127.0.0.1:{one.laddr.port}" == self.address
                for one in seen.net_connections("inet")
            ),
            threads=seen.num_threads(),
            connections=len(states),
            busy=len(states) - states.count("idle"),
        )

    async def _connection_states(self) -> list[str]:
        plain = make_url(self._database_url).set(drivername="postgresql")
        async with await psycopg.AsyncConnection.connect(
            plain.render_as_string(hide_password=False), autocommit=True
        ) as connection:
            found = await connection.execute(
                "SELECT state FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            return [str(state) for (state,) in await found.fetchall()]

    def troubles(self) -> list[str]:
        """What it has logged as an error, or not as a line of JSON."""
        found = []
        for line in self._log.read_text(encoding="utf-8").splitlines():
            try:
                level = json.loads(line)["level"]
            except (ValueError, KeyError, TypeError):
                level = "no JSON"
            if level not in ("debug", "info", "warning"):
                found.append(line)
        return found
