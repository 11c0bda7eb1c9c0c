"""`job-service token revoke` ends the calls of a token wherever they are held."""

import asyncio

import grpc
import pytest

from job_service import token_commands
from job_service.access import token_book
from job_service.client.channel import open_channel
from job_service.jobs.principal import Role
from job_service.server import running
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient, refusal, refused
from tests.service.access.callers import ALICE
from tests.service.access.conftest import MakeToken


async def test_replicas_are_told_of_it(
    service_settings: Settings, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_book, "LOOK_EVERY_SECONDS", 600)  # what is seen in time was told
    kept, revoked = await make_token(Role.CLIENT, ALICE), await make_token(Role.CLIENT, ALICE)
    async with (
        running(service_settings) as one,
        running(service_settings) as other,
        open_channel(one, kept) as staying,
        open_channel(one, revoked) as here,
        open_channel(other, revoked) as there,
    ):
        job = await ProtocolClient(staying).create()
        async with (
            ProtocolClient(staying).watching(job.id) as going_on,
            ProtocolClient(here).watching(job.id) as first,
            ProtocolClient(there).watching(job.id) as second,
        ):
            await token_commands.revoke(service_settings, 2)
            for watch in (first, second):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    async with asyncio.timeout(60):
                        await watch.rest()
                assert refusal(error.value).reason == "TOKEN_REVOKED"
            await ProtocolClient(staying).cancel(job.id)
            assert (await going_on.rest())[-1].job.id == job.id
        said = await refused(ProtocolClient(there).get(job.id))
        assert said.reason == "TOKEN_REVOKED"
