"""Fixtures of the benchmarks, and the report they write."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from sqlalchemy import URL, make_url

from job_service.embedded_postgres import EmbeddedPostgres
from tests.benchmarks.processes import Replica, replica
from tests.benchmarks.report import Report

_WRITTEN_TO: Final = Path(__file__).parents[2] / ".cache" / "bench" / "report.md"
_report: Final = Report()
_numbers: Final = count(1)

StartReplica = Callable[[], Awaitable[Replica]]


@pytest.fixture
def report() -> Report:
    """Where findings go; printed and written at the end."""
    return _report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def durable_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[URL]:
    """A PostgreSQL with its default settings: a commit is on the disk when it is answered."""
    async with EmbeddedPostgres(tmp_path_factory.mktemp("durable")) as postgres:
        yield make_url(postgres.url)


@pytest_asyncio.fixture(loop_scope="session")
async def durable_replica(durable_server: URL, tmp_path: Path) -> AsyncIterator[Replica]:
    """A job_service on a database of its own on the durable server."""
    async with replica(durable_server, f"bench_{next(_numbers)}", tmp_path) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def start_replica(postgres_server: URL, tmp_path: Path) -> AsyncIterator[StartReplica]:
    """Starts job_services, each on a database of its own on a server that skips fsync."""
    async with AsyncExitStack() as stack:

        async def start() -> Replica:
            started = replica(postgres_server, f"bench_{next(_numbers)}", tmp_path)
            return await stack.enter_async_context(started)

        yield start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the report and write it down."""
    if _report.sections:
        _report.write(_WRITTEN_TO)
        terminalreporter.write(f"\n{_report.markdown()}\nWritten to {_WRITTEN_TO}\n")
