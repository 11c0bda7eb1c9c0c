"""A job_service for tests: the real one, on a real socket and a fresh database."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from job_service import server
from job_service.settings import Settings


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
