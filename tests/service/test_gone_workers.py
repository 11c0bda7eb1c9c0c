"""Workers that are gone for good are forgotten; the others keep what they are and reported."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

from job_service import server
from job_service.queue import fleet
from job_service.settings import Settings
from job_service.store.database import Database
from job_service.store.workers import WorkerStore
from tests.generic_plan import plan_of
from tests.jobs_protocol import RUNNING, ProtocolClient
from tests.operator_protocol import ProtocolOperator
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


MONTH = timedelta(days=30)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[WorkerStore]:
    database = Database(database_url)
    yield WorkerStore(database)
    await database.close()


async def processes(sql: Sql) -> list[str]:
    rows = await sql.execute("SELECT name FROM workers ORDER BY id")
    return [row[0] for row in await rows.fetchall()]


async def silent_for(sql: Sql, days: int) -> None:
    """Let it be so long since any worker was heard of."""
    await sql.execute("UPDATE workers SET last_beat_at = last_beat_at - %s", [timedelta(days=days)])


async def test_processes_go_that_were_not_heard_of_for_as_long_as_is_set(
    channel: grpc.aio.Channel, sql: Sql, store: WorkerStore
) -> None:
    for name in ("box-1", "box-1", "box-2", "box-1"):
        await ProtocolWorker(channel, name).beat()
    await silent_for(sql, 29)
    await store.remove_gone(MONTH)
    assert await processes(sql) == ["box-1", "box-1", "box-2", "box-1"]
    await silent_for(sql, 2)
    await ProtocolWorker(channel, "box-1").beat()
    assert not await store.remove_gone(MONTH)
    assert await processes(sql) == ["box-1"]
    assert await store.remove_gone(timedelta(), most=0)  # as many as were asked for: perhaps more


async def test_the_service_does_so_by_itself(service_settings: Settings, sql: Sql) -> None:
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for _ in range(2):
            await ProtocolWorker(channel, "box-1").beat()
    await sql.execute("UPDATE workers SET last_beat_at = now() - interval '2 hours'")
    changed = service_settings.model_copy(update={"worker_retention": timedelta(hours=1)})
    async with server.running(changed), asyncio.timeout(20):
        while len(await processes(sql)) > 1:  # noqa: ASYNC110  # nobody is told of it
            await asyncio.sleep(0.05)


async def test_one_that_holds_a_lease_and_one_that_is_drained_stay(
    channel: grpc.aio.Channel, sql: Sql, store: WorkerStore
) -> None:
    client, operator = ProtocolClient(channel), ProtocolOperator(channel)
    working = ProtocolWorker(channel, "working")
    await working.report_catalogue()
    job = await client.create()
    await working.lease_one()
    for name in ("drained", "newest"):
        await ProtocolWorker(channel, name).beat()
    await operator.drain("drained")
    await silent_for(sql, 31)
    await store.remove_gone(MONTH)
    assert (await client.get(job.id)).status == RUNNING
    assert await processes(sql) == ["working", "drained", "newest"]


async def test_a_name_that_was_forgotten_is_taken_again_where_it_is_remembered(
    channel: grpc.aio.Channel, sql: Sql, store: WorkerStore
) -> None:
    for _ in range(3):
        await ProtocolWorker(channel, "box-1").beat()
    await ProtocolWorker(channel, "newest").beat()
    await silent_for(sql, 31)
    await store.remove_gone(MONTH)
    assert await processes(sql) == ["newest"]
    back = ProtocolWorker(channel, "box-1")
    await back.report_catalogue()
    job = await ProtocolClient(channel).create()
    assert (await back.lease_one()).job_id == job.id


async def test_a_process_that_comes_back_after_it_was_removed_registers_anew(
    channel: grpc.aio.Channel, sql: Sql, store: WorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_FRESH", 0.0)  # after a month nothing is fresh
    asleep = ProtocolWorker(channel, "box-1")
    await asleep.report_catalogue()
    await asleep.lease(wait=0)
    await ProtocolWorker(channel, "newest").beat()
    await silent_for(sql, 31)
    await store.remove_gone(MONTH)
    await asleep.lease(wait=0)
    rows = await sql.execute("SELECT backends <> '[]' FROM workers WHERE name = 'box-1'")
    assert await rows.fetchall() == [(True,)]  # with what it is, though it has not changed
    job = await ProtocolClient(channel).create()
    assert (await asleep.lease_one()).job_id == job.id


async def test_the_check_that_nothing_refers_to_a_process_reads_no_jobs(sql: Sql) -> None:
    await sql.execute("SET enable_seqscan = off")  # there are too few jobs to be worth an index
    check = b"SELECT 1 FROM ONLY generation_jobs x WHERE worker_id = %s FOR KEY SHARE OF x"
    nodes = await plan_of(sql, (check, [1]))
    assert "generation_jobs_worker" in [node.get("Index Name") for node in nodes]
