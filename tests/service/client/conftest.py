"""The client and a worker, both connected to the real service."""

from collections.abc import AsyncIterator

import grpc
import pytest

from job_service.client import JobServiceClient
from tests.service.client.hand_worker import HandWorker


@pytest.fixture
async def jobs(service: str) -> AsyncIterator[JobServiceClient]:
    async with JobServiceClient(service) as client:
        yield client


@pytest.fixture
async def worker(channel: grpc.aio.Channel) -> HandWorker:
    hand = HandWorker(channel)
    await hand.report_catalogue()
    return hand
