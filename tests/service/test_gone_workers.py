"""What workers offered that are gone for good is forgotten; the others keep what they reported."""

import asyncio

import grpc

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker


async def catalogues(sql: Sql) -> list[str]:
    rows = await sql.execute("SELECT worker FROM backend_catalogues ORDER BY worker")
    return [row[0] for row in await rows.fetchall()]


async def test_catalogues_of_workers_gone_for_a_month_go(
    service_settings: Settings, sql: Sql
) -> None:
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for name in ("gone", "quiet", "live"):
            worker = ProtocolWorker(channel, name)
            await worker.report_catalogue()
            await worker.beat()
    await sql.execute("UPDATE backend_catalogues SET reported_at = now() - interval '31 days'")
    for name, days in (("gone", 31), ("quiet", 29)):
        await sql.execute(
            "UPDATE workers SET last_beat_at = now() - make_interval(days => %s) WHERE name = %s",
            (days, name),
        )
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        async with asyncio.timeout(20):
            while True:
                if await catalogues(sql) == ["live", "quiet"]:
                    break
                await asyncio.sleep(0.05)
        # whoever comes back is asked to say again what it has
        back = ProtocolWorker(channel, "gone")
        assert list((await back.ask(wait=20)).directives)
        await back.report_catalogue()
        job = await ProtocolClient(channel).create()
        assert (await back.lease_one()).job_id == job.id
