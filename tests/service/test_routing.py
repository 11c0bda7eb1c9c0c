"""Jobs go only to ComfyUIs that offer what they need, and say so when there is none."""

import asyncio
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient, refused
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker

NO_WORKER_OFFERS = job_pb2.PENDING_REASON_NO_WORKER_OFFERS
QUEUED = job_pb2.PENDING_REASON_QUEUED


async def test_an_unknown_catalogue_gets_no_jobs_but_the_request_to_report_it(
    client: ProtocolClient, channel: grpc.aio.Channel
) -> None:
    await client.create()
    worker = ProtocolWorker(channel)

    answer = await worker.ask(wait=20)
    assert list(answer.directives) == [pb.WORKER_DIRECTIVE_REFRESH_CATALOGUE]
    assert list(answer.leases) == []

    await worker.report_catalogue()
    answer = await worker.ask(wait=20)
    assert list(answer.directives) == []
    assert len(answer.leases) == 1


async def test_a_changed_catalogue_must_be_reported_before_more_jobs_come(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    worker.offers(["another.safetensors"])
    answer = await worker.ask(wait=20)
    assert list(answer.directives) == [pb.WORKER_DIRECTIVE_REFRESH_CATALOGUE]


async def test_a_catalogue_outlives_the_worker_process(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    await client.create()
    restarted = worker.successor(channel)
    assert len(await restarted.lease()) == 1


@pytest.mark.parametrize(
    "needs",
    [
        pytest.param({"checkpoint_model": "rare.safetensors"}, id="checkpoint"),
        pytest.param({"lora_models": [job_pb2.Lora(name="rare.safetensors")]}, id="LoRA"),
        pytest.param({"backend": "kerniegen"}, id="backend label"),
        pytest.param({"job_type": job_pb2.JOB_TYPE_AUDIO}, id="type"),
    ],
)
async def test_a_job_nobody_can_run_waits_and_says_so(
    client: ProtocolClient, worker: ProtocolWorker, needs: dict[str, Any]
) -> None:
    stuck = await client.create(**needs)
    assert stuck.pending_reason == NO_WORKER_OFFERS
    assert await worker.lease(wait=0) == []

    behind = await client.create()
    assert behind.pending_reason == QUEUED
    assert (await worker.lease_one()).job_id == behind.id
    assert (await client.get(stuck.id)).pending_reason == NO_WORKER_OFFERS
    (listed,) = (await client.list_jobs(page_size=1, page_token="")).jobs
    assert listed.id == behind.id


async def test_a_waiting_worker_gets_the_job_once_its_catalogue_brings_the_checkpoint(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create(checkpoint_model="new.safetensors")
    await worker.lease(wait=0)
    worker.offers(["new.safetensors"])
    await worker.report_catalogue()

    assert (await worker.lease_one()).job_id == job.id


async def test_a_job_is_queued_as_soon_as_a_worker_offers_what_it_needs(
    client: ProtocolClient, channel: grpc.aio.Channel
) -> None:
    job = await client.create()
    assert job.pending_reason == NO_WORKER_OFFERS
    worker = ProtocolWorker(channel)
    await worker.report_catalogue()
    await worker.lease(wait=0, free_slots=0)
    assert (await client.get(job.id)).pending_reason == QUEUED


async def test_all_loras_of_a_job_must_be_offered(
    client: ProtocolClient, channel: grpc.aio.Channel
) -> None:
    loras = [job_pb2.Lora(name="b"), job_pb2.Lora(name="a"), job_pb2.Lora(name="b")]
    job = await client.create(lora_models=loras)
    one = ProtocolWorker(channel, "one", loras=["a"])
    both = ProtocolWorker(channel, "both", loras=["a", "b", "c"])
    await asyncio.gather(one.report_catalogue(), both.report_catalogue())

    assert await one.lease(wait=0) == []
    assert (await both.lease_one()).job_id == job.id


async def test_a_worker_serves_the_labels_it_names(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    other = await client.create(backend="kerniegen")
    worker.offer.backend_labels.append("kerniegen")
    assert [lease.job_id for lease in await worker.lease(max_jobs=5)] == [other.id]


async def test_names_are_taken_as_they_are(
    client: ProtocolClient, channel: grpc.aio.Channel
) -> None:
    names = ["sdxl\\x00.safetensors", "a/b c.safetensors", "模型.safetensors", "x'\"%(y)s:z"]
    worker = ProtocolWorker(channel, checkpoints=names)
    await worker.report_catalogue()
    jobs = [await client.create(checkpoint_model=name) for name in names]

    leases = await worker.lease(max_jobs=8)
    assert {lease.job_id for lease in leases} == {job.id for job in jobs}


async def test_a_bad_catalogue_names_its_wrong_fields(worker: ProtocolWorker) -> None:
    request = pb.ReportCatalogueRequest(
        worker=worker.identity,
        catalogues=[
            pb.BackendCatalogue(backend="gpu 0", digest="d" * 65),
            pb.BackendCatalogue(backend="ok", digest="d", checkpoints=["fine", "a\0b"]),
        ],
    )
    error = await refused(worker.stub.ReportCatalogue(request, timeout=20))
    assert set(error.fields) == {
        "catalogues[0].backend", "catalogues[0].digest", "catalogues[1].checkpoints[1]",
    }  # fmt: skip


async def test_a_worker_without_comfyuis_has_nothing_to_report(worker: ProtocolWorker) -> None:
    request = pb.ReportCatalogueRequest(worker=worker.identity)
    error = await refused(worker.stub.ReportCatalogue(request, timeout=20))
    assert error.fields == ("catalogues",)


async def test_a_job_that_another_transaction_refers_to_is_leased_all_the_same(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    await sql.execute("CREATE TABLE content (job_id bigint REFERENCES generation_jobs (id))")
    job = await client.create()
    async with sql.transaction():
        await sql.execute("INSERT INTO content VALUES (%s)", [job.id])
        lease = await worker.lease_one()
        # nor do heartbeats and outcomes wait for the application's transaction
        await worker.beat(lease)
        assert await worker.complete(lease) == job_pb2.JOB_STATUS_COMPLETED


async def test_a_job_that_somebody_has_locked_does_not_block_those_behind_it(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    locked, behind = await client.create(), await client.create()
    async with sql.transaction():
        await sql.execute("SELECT FROM generation_jobs WHERE id = %s FOR UPDATE", [locked.id])
        assert (await worker.lease_one()).job_id == behind.id
    assert (await worker.lease_one()).job_id == locked.id


async def test_a_service_that_starts_with_a_new_kind_of_job_runs_the_older_kinds_too(
    service_settings: Settings,
) -> None:
    """More kinds than are read again for the sake of late commits."""
    checkpoints = [f"{n}.safetensors" for n in range(150)]
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client = ProtocolClient(channel)
        old = [await client.create(checkpoint_model=name) for name in checkpoints]
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client = ProtocolClient(channel)
        await client.create(checkpoint_model="new.safetensors")
        worker = ProtocolWorker(channel, checkpoints=checkpoints[:1])
        await worker.report_catalogue()
        assert (await worker.lease_one()).job_id == old[0].id
