"""What the job API of the former system offered, row by row, by the RPCs that took its place."""

from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_error_pb2, job_pb2
from google.protobuf import timestamp_pb2

from tests.jobs_protocol import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    ProtocolClient,
    refused,
)
from tests.operator_protocol import ProtocolOperator
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, seconds

ANNA, BERT = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"


def ago(days: float) -> timestamp_pb2.Timestamp:
    moment = timestamp_pb2.Timestamp()
    moment.GetCurrentTime()
    moment.seconds -= round(days * 86_400)
    return moment


def ids(jobs: Iterable[job_pb2.GenerationJob]) -> list[int]:
    return [job.id for job in jobs]


async def listed(
    client: ProtocolClient, order: Any = pb.JOB_ORDER_CREATED_DESC, **conditions: Any
) -> list[int]:
    page = await client.list_jobs(
        filter=job_pb2.JobFilter(**conditions), order_by=order, include_total=True
    )
    assert page.total == len(page.jobs), "the total heeds the filter"
    return ids(page.jobs)


async def test_row_post_generation_jobs(client: ProtocolClient) -> None:
    job = await client.create(
        user_id=ANNA,
        prompt="a red fox",
        negative_prompt="text",
        params_json='{"style": "oil"}',
        sampler=job_pb2.Sampler(steps=30),
    )
    assert await client.get(job.id) == job
    assert (job.status, job.user_id, job.prompt, job.sampler.steps) == (
        PENDING, ANNA, "a red fox", 30,
    )  # fmt: skip
    assert job.params_json == '{"style":"oil"}'


async def test_row_get_put_and_delete_of_one_job(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    pending, running = await client.create(priority=-1), await client.create()
    request = pb.UpdateJobRequest(job=job_pb2.GenerationJob(id=pending.id, width=1024))
    request.update_mask.paths.append("width")
    assert (await client.stub.UpdateJob(request, timeout=20)).job.width == 1024
    lease = await worker.lease_one()
    request.job.id = running.id
    assert (await refused(client.stub.UpdateJob(request, timeout=20))).reason == "WRONG_STATE"

    for job in (pending, running):
        assert (await refused(client.delete(job.id))).reason == "WRONG_STATE"
    await worker.complete(lease)
    assert await client.delete(running.id)
    assert (await refused(client.get(running.id))).status is grpc.StatusCode.NOT_FOUND


async def test_row_put_status_and_result(
    client: ProtocolClient, worker: ProtocolWorker, operator: ProtocolOperator
) -> None:
    done, doomed = await client.create(), await client.create()
    assert await worker.complete(await worker.lease_one()) == COMPLETED
    await worker.lease_one()
    assert (await operator.fail_now(doomed.id, "the GPU is being replaced")).status == FAILED

    request = pb.SetJobContentRequest(id=done.id, content_id=42)
    assert (await client.stub.SetJobContent(request, timeout=20)).job.content_id == 42
    assert (await client.get(done.id)).content_id == 42


async def test_row_post_cancel_with_a_reason(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await client.cancel(job.id, "changed my mind")
    assert len((await worker.beat(lease)).verdicts) == 1
    await worker.release(lease)
    ended = await client.get(job.id)
    assert (ended.status, ended.cancel_reason) == (CANCELLED, "changed my mind")


async def test_row_lists_by_user_status_and_type(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    annas = [await client.create(user_id=ANNA) for _ in range(3)]
    text = await client.create(user_id=BERT, job_type=job_pb2.JOB_TYPE_TEXT)
    first = await worker.lease_one()
    await worker.complete(first)
    running = await worker.lease_one()
    (waiting,) = {job.id for job in annas} - {first.job_id, running.job_id}

    newest_first = ids(annas)[::-1]
    assert await listed(client) == [text.id, *newest_first]
    assert await listed(client, user_id=ANNA) == newest_first
    assert await listed(client, job_types=[job_pb2.JOB_TYPE_TEXT]) == [text.id]
    assert await listed(client, statuses=[COMPLETED]) == [first.job_id]
    assert await listed(client, statuses=[RUNNING]) == [running.job_id]
    assert await listed(client, statuses=[PENDING], user_id=ANNA) == [waiting]
    oldest_first = await listed(client, pb.JOB_ORDER_CREATED_ASC, statuses=[PENDING])
    assert oldest_first == [waiting, text.id]


@pytest.mark.parametrize(("status", "days"), [(COMPLETED, 30), (FAILED, 7), (CANCELLED, None)])
async def test_row_lists_completed_last_30_days_failed_last_7_days_and_cancelled(
    status: Any, days: int | None, client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    jobs = [await client.create() for _ in range(3)]
    for job in jobs:
        if status == CANCELLED:
            await client.cancel(job.id)
            continue
        lease = await worker.lease_one()
        if status == COMPLETED:
            await worker.complete(lease)
        else:
            await worker.fail(lease, job_error_pb2.ERROR_CODE_INVALID_WORKFLOW)
    age = (days or 1000) + 1
    await sql.execute(
        f"UPDATE generation_jobs SET completed_at = now() - interval '{age} days'"
        f" WHERE id = {jobs[0].id}".encode()
    )
    recent = {"completed_after": ago(days)} if days else {}
    found = await listed(client, pb.JOB_ORDER_COMPLETED_DESC, statuses=[status], **recent)
    assert found == ids(reversed(jobs[1:] if days else jobs))


async def test_row_stats_overview_of_a_user_and_of_the_queue(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    for user in (ANNA, ANNA, BERT, BERT):
        await client.create(user_id=user)
    leases = await worker.lease(3)
    await worker.progress(leases[0], 0.5, running_for=seconds(2))
    await worker.complete(leases[0])
    await worker.fail(leases[1], job_error_pb2.ERROR_CODE_INVALID_WORKFLOW)

    (overview,) = await stats(client)
    assert (overview.total, overview.completed, overview.failed) == (4, 1, 1)
    assert overview.success_rate == 0.5
    assert overview.running.mean.ToMilliseconds() > 0
    (anna,) = await stats(client, filter=job_pb2.JobFilter(user_id=ANNA))
    assert anna.total == 2
    queue = await client.stub.GetQueueStats(pb.GetQueueStatsRequest(), timeout=20)
    assert (queue.pending, queue.running, queue.live_workers) == (1, 1, 1)


async def test_row_post_queue_process_has_nothing_to_call(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    """A worker that waits gets a job the moment it is created."""
    job = await client.create()
    assert (await worker.lease_one()).job_id == job.id


async def test_row_analytics_trends_users_models_failures_and_peak_hours(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    jobs = [await client.create(user_id=user) for user in (ANNA, ANNA, BERT)]
    for job, age in zip(jobs, ("2 days 3 hours", "2 days 3 hours", "1 day"), strict=True):
        await sql.execute(
            "UPDATE generation_jobs SET created_at = date_trunc('day', now())"
            f" + interval '12 hours' - interval '{age}' WHERE id = {job.id}".encode()
        )
    lease = await worker.lease_one()
    await worker.fail(lease, job_error_pb2.ERROR_CODE_OUT_OF_MEMORY)

    window = job_pb2.JobFilter(created_after=ago(90))
    (overview,) = await stats(client, filter=window)
    assert (overview.total, overview.failed) == (3, 1)
    trend = await stats(client, pb.STATS_DIMENSION_TIME_BUCKET, filter=window)
    assert [row.total for row in trend] == [2, 1]
    users = await stats(client, pb.STATS_DIMENSION_USER, filter=window)
    assert {row.user_id: row.total for row in users} == {ANNA: 2, BERT: 1}
    (model,) = await stats(client, pb.STATS_DIMENSION_CHECKPOINT, filter=window)
    assert (model.checkpoint_model, model.total) == (jobs[0].checkpoint_model, 3)
    failures = await stats(
        client, pb.STATS_DIMENSION_ERROR_CODE, filter=job_pb2.JobFilter(statuses=[FAILED])
    )
    assert [(row.error_code, row.total) for row in failures] == [
        (job_error_pb2.ERROR_CODE_OUT_OF_MEMORY, 1)
    ]
    hours = await stats(client, pb.STATS_DIMENSION_HOUR_OF_DAY, filter=window)
    peak = max(hours, key=lambda row: row.total)
    assert (peak.hour_of_day, peak.total) == (9, 2)


async def test_row_error_categories_severities_and_recovery(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    """The whole table of codes is in tests/unit/jobs/test_error_policy.py."""
    await client.create()
    lease = await worker.lease_one()
    await worker.fail(
        lease,
        job_error_pb2.ERROR_CODE_OUT_OF_MEMORY,
        message="KSampler at /srv/comfy/nodes.py ran out of memory",
        node_id="3",
        node_type="KSampler",
    )
    error = (await client.get(lease.job_id)).error
    assert error.category == job_error_pb2.ERROR_CATEGORY_RESOURCE
    assert error.severity == job_error_pb2.ERROR_SEVERITY_MEDIUM
    assert not error.retryable
    assert error.message == "KSampler at <path> ran out of memory"
    assert error.recovery_suggestions
    assert (error.node_id, error.node_type) == ("3", "KSampler")

    job = await client.create()
    await worker.fail(await worker.lease_one(), job_error_pb2.ERROR_CODE_DEVICE_FAULT)
    error = (await client.get(job.id)).error
    assert error.retryable
    assert error.retry_delay.ToMilliseconds() > 0


async def test_row_retries_three_attempts_exponential_with_jitter(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create()
    pauses = []
    for _ in range(3):
        await worker.fail(await worker.lease_one(), job_error_pb2.ERROR_CODE_INTERNAL)
        pauses.append((await client.get(job.id)).error.retry_delay.ToMilliseconds() / 1000)
        await sql.execute(
            "UPDATE generation_jobs SET not_before = NULL, dispatchable = true"
            " WHERE status = 'pending'"
        )
    ended = await client.get(job.id)
    assert (ended.status, ended.attempts_charged) == (FAILED, 3)
    assert ended.error.attempts_exhausted
    assert 1 <= pauses[0] <= 5
    assert 1 <= pauses[1] <= 10
    assert pauses[2] == 0


async def test_row_websocket_of_one_job_and_of_many(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    done, failed = await client.create(user_id=ANNA), await client.create(user_id=BERT)
    async with client.watching_jobs(job_pb2.JobFilter(ids=[done.id, failed.id])) as many:
        async with client.watching(done.id) as one:
            first, second = await worker.lease(2)
            await one.until(RUNNING)
            await worker.progress(first, 0.5)
            while (await one.next_job()).progress.fraction != 0.5:
                pass
            await worker.complete(first, await worker.upload(first, b"picture"))
            ended = await one.until(COMPLETED)
            assert [artifact.filename for artifact in ended.artifacts] == ["picture.png"]
        await worker.fail(second, job_error_pb2.ERROR_CODE_NODE_FAILED, message="it broke")
        await many.until(
            lambda seen: (
                seen.jobs[done.id].status == COMPLETED and seen.jobs[failed.id].status == FAILED
            )
        )
        assert many.jobs[failed.id].error.message == "it broke"
        request = pb.SetJobContentRequest(id=done.id, content_id=7)
        await client.stub.SetJobContent(request, timeout=20)
        await many.until(lambda seen: seen.jobs[done.id].content_id == 7)


async def test_row_notifications_once_on_completed_failed_and_cancelled(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    mine = job_pb2.JobFilter(user_id=ANNA, statuses=[COMPLETED, FAILED, CANCELLED])
    async with client.watching_jobs(mine, changes_only=True) as watch:
        done, failed, cancelled = [await client.create(user_id=ANNA) for _ in range(3)]
        await client.create(user_id=BERT, checkpoint_model="nobody-has-this.safetensors")
        await client.cancel(cancelled.id)
        first, second = await worker.lease(2)
        await worker.complete(first)
        # no word of an attempt that is followed by another
        await worker.fail(second, job_error_pb2.ERROR_CODE_INTERNAL, retry_after=0)
        again = await worker.lease_one()
        await worker.fail(again, job_error_pb2.ERROR_CODE_INVALID_WORKFLOW)
        await watch.until(lambda seen: len(seen.jobs) == 3)
        told = [message.job.id for message in watch.messages if message.HasField("job")]
        assert sorted(told) == sorted(ids([done, failed, cancelled]))
        assert {job.status for job in watch.jobs.values()} == {COMPLETED, FAILED, CANCELLED}


async def stats(client: ProtocolClient, *group_by: Any, **fields: Any) -> list[pb.JobStats]:
    request = pb.GetJobStatsRequest(group_by=group_by, **fields)
    return list((await client.stub.GetJobStats(request, timeout=20)).rows)
