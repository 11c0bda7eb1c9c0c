"""A scripted peer and a client connected to it."""

from collections.abc import AsyncIterator

import pytest

from job_service.client import JobServiceClient
from tests.unit.client.scripted_service import ScriptedService


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedService]:
    async with ScriptedService() as service:
        yield service
    assert service.unused() == {}


@pytest.fixture
async def client(scripted: ScriptedService) -> AsyncIterator[JobServiceClient]:
    async with JobServiceClient(scripted.address, retry_for=20.0) as connected:
        yield connected
