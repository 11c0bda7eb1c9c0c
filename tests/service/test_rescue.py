"""A job whose worker goes silent is run by another, and its render is adopted where it can be."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from generation_jobs.v1 import attempt_pb2, job_error_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    ProtocolClient,
    refused,
)
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, verdicts


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"lease_ttl": timedelta(seconds=1)})


async def test_another_worker_gets_the_job_once_the_lease_has_expired(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    job = await client.create()
    first = await worker.lease_one()
    await worker.upload(first, b"half done")
    other = ProtocolWorker(channel, "box-2")
    await other.report_catalogue()

    second = await other.lease_one(wait=20)

    assert (second.job_id, second.attempt) == (job.id, 2)
    assert second.lease_token != first.lease_token
    assert second.prompt_id != first.prompt_id
    # that prompt is in a ComfyUI that box-2 cannot reach
    assert list(second.prior_prompts) == []
    assert (await refused(worker.complete(first))).reason == "LEASE_LOST"
    assert await other.complete(second) == COMPLETED

    lost, done = (await client.get(job.id)).attempts
    assert lost.outcome == attempt_pb2.ATTEMPT_OUTCOME_LEASE_EXPIRED
    assert lost.charged
    assert lost.error.code == job_error_pb2.ERROR_CODE_WORKER_LOST
    assert "box-1" in lost.error.technical_details
    assert done.outcome == attempt_pb2.ATTEMPT_OUTCOME_COMPLETED


async def test_the_same_comfyui_gets_the_job_first_and_its_prompt_to_adopt(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    job = await client.create()
    first = await worker.lease_one()
    other = ProtocolWorker(channel, "box-2")
    await other.report_catalogue()
    waiting = asyncio.create_task(other.lease(wait=20))
    pending = await client.seen(job.id, PENDING)
    assert pending.error.code == job_error_pb2.ERROR_CODE_WORKER_LOST

    second = await worker.lease_one()
    assert (second.job_id, second.attempt, second.backend) == (job.id, 2, "gpu0")
    assert list(second.prior_prompts) == [pb.PriorPrompt(attempt=1, prompt_id=first.prompt_id)]
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await worker.complete(second, prompt_id=first.prompt_id) == COMPLETED
    assert (await client.get(job.id)).comfyui_prompt_id == first.prompt_id


async def test_another_comfyui_of_the_same_worker_does_not_adopt(
    client: ProtocolClient, channel: grpc.aio.Channel
) -> None:
    worker = ProtocolWorker(channel, backends=("gpu0", "gpu1"))
    await worker.report_catalogue()
    await client.create()
    first = await worker.lease_one()
    elsewhere = ProtocolWorker(
        channel, "box-1", backends=["gpu1" if first.backend == "gpu0" else "gpu0"]
    )
    elsewhere.identity.CopyFrom(worker.identity)

    second = await elsewhere.lease_one(wait=20)
    assert second.attempt == 2
    assert second.backend != first.backend
    assert list(second.prior_prompts) == []


async def test_a_renewed_lease_is_not_rescued(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    # held for a third of the lease's lifetime each: three lifetimes in all
    for _ in range(10):
        answer = await worker.beat(lease, wait=10)
        assert verdicts(answer) == {lease.lease_token: pb.VERDICT_CONTINUE}
    assert await worker.complete(lease) == COMPLETED
    assert [attempt.attempt for attempt in (await client.get(job.id)).attempts] == [1]


async def test_a_job_that_keeps_losing_its_workers_fails_when_its_attempts_are_used_up(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create(max_attempts=2)
    await worker.lease_one()
    await worker.lease_one(wait=20)

    ended = await client.seen(job.id, FAILED)
    assert (ended.attempt, ended.attempts_charged) == (2, 2)
    assert ended.error.code == job_error_pb2.ERROR_CODE_WORKER_LOST
    assert ended.error.attempts_exhausted
    assert await worker.lease(wait=0) == []


async def test_a_lease_lost_after_a_cancel_ends_cancelled(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    await worker.lease_one()
    await client.cancel(job.id)
    ended = await client.seen(job.id, CANCELLED)
    assert ended.attempts[0].outcome == attempt_pb2.ATTEMPT_OUTCOME_CANCELLED


async def test_a_job_that_was_to_be_deleted_goes_with_its_lost_lease(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    await worker.lease_one()
    assert not await client.delete(job.id, cancel=True)
    async with asyncio.timeout(20):
        while (await client.list_jobs(page_size=1)).jobs:
            pass


async def test_a_holder_records_as_long_as_it_is_not_rescued(
    service_settings: Settings, sql: Sql
) -> None:
    """A lease whose time has passed still holds: a replica rescues only after a whole lifetime."""
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client, worker = ProtocolClient(channel), ProtocolWorker(channel)
        await worker.report_catalogue()
        job = await client.create()
        lease = await worker.lease_one()
    await sql.execute("UPDATE generation_jobs SET lease_expires_at = now() - interval '1 hour'")
    patient = service_settings.model_copy(update={"lease_ttl": timedelta(seconds=30)})
    async with (
        server.running(patient) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client, worker.stub = ProtocolClient(channel), ProtocolWorker(channel).stub
        assert (await client.get(job.id)).status == RUNNING
        assert await worker.progress(lease) == pb.VERDICT_CONTINUE
        artifact = await worker.upload(lease, b"made during the outage")
        assert await worker.complete(lease, artifact) == COMPLETED
