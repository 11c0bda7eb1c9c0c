"""What an installation lets one user have waiting and running."""

import asyncio
from uuid import uuid4

import grpc
import pytest
from generation_jobs.v1 import job_error_pb2, job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from job_service.settings import Settings
from tests.jobs_protocol import COMPLETED, ProtocolClient
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker

GREEDY, MODEST = str(uuid4()), str(uuid4())


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(
        update={"max_pending_per_user": 5, "max_running_per_user": 2}
    )


async def create(client: ProtocolClient, user: str, count: int = 1) -> list[int]:
    return [(await client.create(user_id=user)).id for _ in range(count)]


async def test_a_user_with_too_many_pending_jobs_is_told_which_quota_and_when_to_try_again(
    client: ProtocolClient,
) -> None:
    await create(client, GREEDY, 5)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await create(client, GREEDY)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    assert status is not None
    info, retry, quota = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.RetryInfo(),
        error_details_pb2.QuotaFailure(),
    )
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert status.details[2].Unpack(quota)
    assert info.reason == "QUOTA_EXCEEDED"
    assert retry.retry_delay.seconds > 0
    assert quota.violations[0].subject == f"user:{GREEDY}/pending_jobs"
    assert await create(client, MODEST)


async def test_a_repeated_request_is_answered_also_when_the_quota_is_used_up(
    client: ProtocolClient,
) -> None:
    first = await client.create(user_id=GREEDY, request_id="once")
    await create(client, GREEDY, 4)
    assert (await client.create(user_id=GREEDY, request_id="once")).id == first.id


async def test_of_requests_that_are_stored_together_only_those_beyond_the_quota_are_refused(
    client: ProtocolClient,
) -> None:
    answers = await asyncio.gather(
        *(client.create(user_id=user) for user in [GREEDY] * 8 + [MODEST] * 3),
        return_exceptions=True,
    )
    refused = [isinstance(answer, grpc.aio.AioRpcError) for answer in answers]
    # Statements that run at the same time may go beyond the quota by their own jobs: the first
    # call found no statement under way and went alone.
    assert 2 <= sum(refused[:8]) <= 3
    assert not any(refused[8:])


async def test_a_user_runs_no_more_jobs_than_allowed_and_keeps_nobody_else_waiting(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    greedy = await create(client, GREEDY, 5)
    modest = await create(client, MODEST)
    first = {lease.job_id: lease for lease in await until_leased(worker, 3)}
    assert set(first) == {*greedy[:2], *modest}
    assert not await worker.lease(8, wait=0)
    parked = await client.get(greedy[2])
    assert parked.pending_reason == job_pb2.PENDING_REASON_USER_LIMIT

    await worker.complete(first[greedy[0]])

    assert (await worker.lease_one()).job_id == greedy[2]
    assert not await worker.lease(8, wait=0)


async def test_every_end_of_a_job_makes_room_for_the_next(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    jobs = await create(client, GREEDY, 5)
    leases = {lease.job_id: lease for lease in await until_leased(worker, 2)}
    await client.cancel(jobs[0])
    await worker.release(leases[jobs[0]])
    third = await worker.lease_one()
    assert third.job_id == jobs[2]
    await worker.fail(leases[jobs[1]], job_error_pb2.ERROR_CODE_INVALID_WORKFLOW)
    fourth = await worker.lease_one()
    assert fourth.job_id == jobs[3]


async def test_a_job_that_waited_for_its_time_is_held_to_the_cap_as_well(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    await create(client, GREEDY, 2)
    later = job_pb2.GenerationJob()
    later.scheduled_at.GetCurrentTime()
    later.scheduled_at.seconds += 3600
    scheduled = await client.create(user_id=GREEDY, scheduled_at=later.scheduled_at)
    assert scheduled.pending_reason == job_pb2.PENDING_REASON_SCHEDULED
    first, _ = await until_leased(worker, 2)
    async with client.watching(scheduled.id) as watch:
        await sql.execute(
            "UPDATE generation_jobs SET not_before = now() WHERE id = %s", (scheduled.id,)
        )
        while watch.job.pending_reason != job_pb2.PENDING_REASON_USER_LIMIT:
            await watch.next_job()
    assert not await worker.lease(8, wait=0)
    await worker.complete(first)
    assert (await worker.lease_one()).job_id == scheduled.id


async def test_an_operator_can_set_a_users_share(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    await sql.execute(
        "INSERT INTO user_shares (user_id, max_pending, max_running) VALUES (%s, 9, 4)", (GREEDY,)
    )
    jobs = await create(client, GREEDY, 9)
    leases = await until_leased(worker, 4)
    assert [lease.job_id for lease in leases] == jobs[:4]
    assert not await worker.lease(8, wait=0)
    for lease in leases:
        assert await worker.complete(lease) == COMPLETED


async def until_leased(worker: ProtocolWorker, count: int) -> list[pb.Lease]:
    leases: list[pb.Lease] = []
    while len(leases) < count:
        leases += await worker.lease(count - len(leases))
    return leases
