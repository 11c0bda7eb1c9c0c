"""Replicas on one database that find hardly anything by reading again: they must be told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import grpc
import pytest

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient
from tests.operator_protocol import ProtocolOperator
from tests.worker_protocol import ProtocolWorker

Answer = TypeVar("Answer")


class Replica:
    """A running job_service and whoever calls it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.client = ProtocolClient(channel)
        self.operator = ProtocolOperator(channel)

    def worker(self, name: str = "box-1", **fields: Any) -> ProtocolWorker:
        """A worker process that speaks with this replica; it has said nothing yet."""
        return ProtocolWorker(self.channel, name, **fields)

    async def known_worker(self, name: str = "box-1", **fields: Any) -> ProtocolWorker:
        """A worker that has registered here."""
        worker = self.worker(name, **fields)
        await worker.report_catalogue()
        await worker.lease(wait=0)
        return worker

    async def holding(self, call: Coroutine[Any, Any, Answer]) -> "asyncio.Task[Answer]":
        """A call to this replica that has arrived and is held."""
        task = asyncio.create_task(call)
        for _ in range(3):  # behind it on the same connection
            await self.client.list_jobs(page_size=1)
        assert not task.done()
        return task


StartReplica: TypeAlias = Callable[..., Awaitable[Replica]]


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    """Longer than any test waits: what is seen in time was told."""
    return service_settings.model_copy(
        update={
            "catch_up_interval": timedelta(seconds=300),
            "lease_ttl": timedelta(seconds=300),  # a heartbeat is held for a third of it
        }
    )


@pytest.fixture
async def start_replica(service_settings: Settings, tmp_path: Path) -> AsyncIterator[StartReplica]:
    """Starts a replica with these settings."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Replica:
            changed = service_settings.model_copy(update=settings)
            address = await stack.enter_async_context(server.running(changed))
            channel = grpc.aio.insecure_channel(address)
            return Replica(await stack.enter_async_context(channel))

        yield start


@pytest.fixture
async def here(start_replica: StartReplica) -> Replica:
    """One replica."""
    return await start_replica()


@pytest.fixture
async def there(start_replica: StartReplica, here: Replica) -> Replica:
    """Another one on the same database."""
    return await start_replica()
