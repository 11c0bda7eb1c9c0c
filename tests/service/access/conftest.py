"""A service that asks for tokens, and tokens of every role."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

import grpc
import pytest

from job_service.access import secret
from job_service.client.channel import open_channel
from job_service.jobs.principal import Role
from job_service.settings import Settings
from job_service.store.database import Database
from job_service.store.tokens import TokenTable
from tests.jobs_protocol import ProtocolClient
from tests.service.access.callers import ALICE
from tests.worker_protocol import ProtocolWorker

MakeToken: TypeAlias = Callable[..., Awaitable[str]]
Connect: TypeAlias = Callable[..., grpc.aio.Channel]


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"require_tokens": True})


@pytest.fixture
async def table(database_url: str) -> AsyncIterator[TokenTable]:
    database = Database(database_url, pool_size=2)
    yield TokenTable(database)
    await database.close()


@pytest.fixture
def make_token(table: TokenTable) -> MakeToken:
    """Makes a token of the database."""

    async def make(
        role: Role,
        user_id: UUID | None = None,
        *,
        name: str = "",
        worker: str = "",
        lifetime: timedelta | None = None,
    ) -> str:
        token = secret.drawn()
        await table.add(
            name or role,
            secret.digest(token),
            role,
            user_id=user_id,
            worker=worker,
            lifetime=lifetime,
        )
        return token

    return make


@pytest.fixture
async def connect(service: str) -> AsyncIterator[Connect]:
    """Opens channels that send a token with every call, and perhaps for whom it is."""
    channels: list[grpc.aio.Channel] = []

    def opened(token: str, on_behalf_of: UUID | None = None) -> grpc.aio.Channel:
        channels.append(open_channel(service, token, on_behalf_of=on_behalf_of))
        return channels[-1]

    yield opened
    for channel in channels:
        await channel.close()


@pytest.fixture
async def alice(make_token: MakeToken, connect: Connect) -> ProtocolClient:
    """A client with a token of her own."""
    return ProtocolClient(connect(await make_token(Role.CLIENT, ALICE)))


@pytest.fixture
async def worker(make_token: MakeToken, connect: Connect) -> ProtocolWorker:
    """A worker with a token, whose catalogue the service knows."""
    connected = ProtocolWorker(connect(await make_token(Role.WORKER)))
    await connected.report_catalogue()
    return connected
