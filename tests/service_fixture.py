"""A job_service for tests: the real one, on a real socket and a fresh database."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import psycopg
import pytest
import structlog
from sqlalchemy import make_url

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient
from tests.worker_protocol import ProtocolWorker

Sql: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]


@pytest.fixture(scope="session", autouse=True)
def plain_log() -> None:
    """Log errors as the command does, without the values of local variables: those take seconds."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )


@pytest.fixture
def service_settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of the service under test; a test may override this fixture."""
    return Settings(
        database_url=database_url,
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        lease_ttl=timedelta(seconds=30),
        shutdown_grace=timedelta(seconds=2),
    )


@pytest.fixture
async def service(service_settings: Settings) -> AsyncIterator[str]:
    """A running job_service; its address."""
    async with server.running(service_settings) as address:
        yield address


@pytest.fixture
async def channel(service: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the running job_service."""
    async with grpc.aio.insecure_channel(service) as connection:
        yield connection


@pytest.fixture
def client(channel: grpc.aio.Channel) -> ProtocolClient:
    """A client of the running job_service."""
    return ProtocolClient(channel)


@pytest.fixture
async def worker(channel: grpc.aio.Channel) -> ProtocolWorker:
    """A worker whose catalogue the running job_service knows."""
    connected = ProtocolWorker(channel)
    await connected.report_catalogue()
    return connected


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[Sql]:
    """A connection to the service's database, as an operator's psql would have it."""
    plain = make_url(database_url).set(drivername="postgresql")
    async with await psycopg.AsyncConnection.connect(
        plain.render_as_string(hide_password=False), autocommit=True
    ) as connection:
        yield connection


@pytest.fixture
def stored_files(service_settings: Settings) -> "StoredFiles":
    """What is in the service's artifact store."""
    return StoredFiles(service_settings.data_dir / "artifacts")


class StoredFiles:
    """The files of a directory store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self) -> list[bytes]:
        """The contents of all files."""
        files = (path for path in self._directory.rglob("*") if path.is_file())
        return [path.read_bytes() for path in files]
