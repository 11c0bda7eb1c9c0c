"""UpdateJob, SetJobContent and BatchCancelJobs: what clients change after the fact."""

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_error_pb2, job_pb2, worker_service_pb2
from google.protobuf import field_mask_pb2

from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    PENDING,
    RUNNING,
    ProtocolClient,
    refused,
)
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, verdicts


async def update(
    client: ProtocolClient, job_id: int, *paths: str, etag: str = "", **fields: Any
) -> job_pb2.GenerationJob:
    request = pb.UpdateJobRequest(
        job=job_pb2.GenerationJob(id=job_id, etag=etag, **fields),
        update_mask=field_mask_pb2.FieldMask(paths=paths or fields.keys()),
    )
    return (await client.stub.UpdateJob(request, timeout=20)).job


async def test_only_what_the_mask_names_is_changed(client: ProtocolClient) -> None:
    before = await client.create(negative_prompt="old", labels={"a": "1"})
    after = await update(
        client,
        before.id,
        "negative_prompt",
        "sampler.steps",
        negative_prompt="new",
        width=64,
        sampler=job_pb2.Sampler(steps=7, cfg=1),
    )
    expected = job_pb2.GenerationJob()
    expected.CopyFrom(before)
    expected.negative_prompt = "new"
    expected.sampler.steps = 7
    for field in ("revision", "etag", "updated_at"):
        expected.ClearField(field)
        after.ClearField(field)
    assert after == expected


async def test_a_masked_field_that_is_not_given_gets_its_default(client: ProtocolClient) -> None:
    job = await client.create(width=64, labels={"a": "1"})
    after = await update(client, job.id, "width", "labels", "sampler.seed")
    assert (after.width, dict(after.labels)) == (832, {})
    assert after.sampler.seed != job.sampler.seed


async def test_the_prompt_is_immutable_for_clients_and_in_the_database(
    client: ProtocolClient, sql: Sql
) -> None:
    job = await client.create()
    error = await refused(update(client, job.id, "prompt", prompt="another"))
    assert error.status is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields == ("update_mask.paths[0]",)
    with pytest.raises(psycopg.errors.IntegrityError):
        await sql.execute("UPDATE generation_jobs SET prompt = 'another' WHERE id = %s", (job.id,))


@pytest.mark.parametrize("path", ["status", "attempt", "job_type", "no_such_field", "sampler.no"])
async def test_what_cannot_be_updated_is_named(path: str, client: ProtocolClient) -> None:
    job = await client.create()
    error = await refused(update(client, job.id, path))
    assert (error.status, error.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ("update_mask.paths[0]",),
    )


async def test_new_values_are_held_to_the_same_bounds(client: ProtocolClient) -> None:
    job = await client.create()
    error = await refused(update(client, job.id, width=63, height=4096, max_attempts=0))
    assert set(error.fields) == {"job.width", "job.height", "job.max_attempts"}
    assert (await client.get(job.id)).etag == job.etag


async def test_an_etag_that_is_out_of_date_changes_nothing(client: ProtocolClient) -> None:
    job = await client.create()
    changed = await update(client, job.id, etag=job.etag, negative_prompt="first")
    error = await refused(update(client, job.id, etag=job.etag, negative_prompt="second"))
    assert (error.status, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert await client.get(job.id) == changed


async def test_of_many_updates_at_once_none_is_lost(client: ProtocolClient) -> None:
    job = await client.create()
    await asyncio.gather(
        update(client, job.id, negative_prompt="n"),
        update(client, job.id, width=64),
        update(client, job.id, height=128),
        update(client, job.id, labels={"a": "1"}),
    )
    after = await client.get(job.id)
    assert (after.negative_prompt, after.width, after.height) == ("n", 64, 128)
    assert dict(after.labels) == {"a": "1"}


async def test_only_a_pending_job_can_be_updated(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    error = await refused(update(client, job.id, negative_prompt="late"))
    assert (error.status, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
    await worker.complete(lease)
    assert (await refused(update(client, job.id, width=64))).reason == "WRONG_STATE"
    assert (await refused(update(client, 10**9, width=64))).reason == "JOB_NOT_FOUND"


async def test_a_job_that_is_moved_takes_its_new_place(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    first, second, third = [(await client.create()).id for _ in range(3)]
    await update(client, third, priority=5)
    later = job_pb2.GenerationJob()
    later.scheduled_at.GetCurrentTime()
    later.scheduled_at.seconds += 3600
    moved = await update(client, first, scheduled_at=later.scheduled_at)
    assert moved.pending_reason == job_pb2.PENDING_REASON_SCHEDULED
    assert [(await worker.lease_one()).job_id for _ in range(2)] == [third, second]
    await update(client, first, "scheduled_at")
    assert (await worker.lease_one()).job_id == first


async def test_another_checkpoint_is_another_route(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create(checkpoint_model="nobody-has-this.safetensors")
    assert job.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS
    await update(client, job.id, checkpoint_model=worker.catalogues[0].checkpoints[0])
    assert (await worker.lease_one()).job_id == job.id


async def test_content_can_be_set_and_taken_back_in_any_state(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    await worker.complete(await worker.lease_one())

    async def set_content(**fields: Any) -> job_pb2.GenerationJob:
        request = pb.SetJobContentRequest(id=job.id, **fields)
        return (await client.stub.SetJobContent(request, timeout=20)).job

    assert (await set_content(content_id=42)).content_id == 42
    after = await client.get(job.id)
    assert (after.content_id, after.status) == (42, COMPLETED)
    assert not (await set_content()).HasField("content_id")
    assert (await refused(set_content(content_id=0))).fields == ("content_id",)


async def test_a_filter_cancels_what_has_not_ended_and_tells_the_workers_at_once(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    user = str(uuid4())
    running, *waiting = [(await client.create(user_id=user, labels={"set": "x"})) for _ in range(4)]
    bystander = await client.create(user_id=user)
    lease = await worker.lease_one()
    assert lease.job_id == running.id
    held = asyncio.create_task(worker.beat(lease, wait=10))
    request = pb.BatchCancelJobsRequest(
        filter=job_pb2.JobFilter(user_id=user, labels={"set": "x"}), reason="changed my mind"
    )

    answer = await client.stub.BatchCancelJobs(request, timeout=20)

    assert (answer.cancelled_count, answer.cancelling_count) == (3, 1)
    async with asyncio.timeout(5):
        told = verdicts(await held)
    assert told == {lease.lease_token: worker_service_pb2.VERDICT_CANCEL}
    for job in waiting:
        cancelled = await client.get(job.id)
        assert (cancelled.status, cancelled.cancel_reason) == (CANCELLED, "changed my mind")
    assert (await client.get(running.id)).status == RUNNING
    assert (await client.get(bystander.id)).status == PENDING
    again = await client.stub.BatchCancelJobs(request, timeout=20)
    assert (again.cancelled_count, again.cancelling_count) == (0, 0)


@pytest.mark.parametrize("wanted", [job_pb2.JobFilter(), job_pb2.JobFilter(user_id=str(uuid4()))])
async def test_a_filter_that_names_nothing_in_particular_cancels_nothing(
    wanted: job_pb2.JobFilter, client: ProtocolClient
) -> None:
    job = await client.create()
    error = await refused(
        client.stub.BatchCancelJobs(pb.BatchCancelJobsRequest(filter=wanted), timeout=20)
    )
    assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("filter",))
    assert (await client.get(job.id)).status == PENDING


async def test_attempts_that_are_used_up_cannot_be_taken_away(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create(max_attempts=3)
    for _ in range(2):
        lease = await worker.lease_one()
        await worker.fail(lease, job_error_pb2.ERROR_CODE_INTERNAL, retry_after=0)
    for too_few in (1, 2):
        error = await refused(update(client, job.id, max_attempts=too_few))
        assert (error.status, error.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "WRONG_STATE",
        )
        assert error.metadata["attempts_charged"] == "2"
    assert (await update(client, job.id, max_attempts=4)).max_attempts == 4
