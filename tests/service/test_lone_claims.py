"""A job that is created while a worker waits is leased at once, but never before its turn."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

from tests.jobs_protocol import PENDING, RUNNING, ProtocolClient
from tests.service_fixture import Sql
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker

Answer = TypeVar("Answer")

#: A copy of a job, pending and first in line, that nobody is told of.
UNTOLD = """
INSERT INTO generation_jobs (
    user_id, prompt, checkpoint_model, route_key, dispatchable, virtual_start, priority
)
SELECT user_id, prompt, checkpoint_model, route_key, true, 0, priority FROM generation_jobs
WHERE id = %s RETURNING id
"""

#: The same, leased to the only worker there is by a call that it repeats.
LEASED_ELSEWHERE = """
INSERT INTO generation_jobs (
    user_id, prompt, checkpoint_model, route_key, virtual_start, status, attempt, lease_token,
    lease_request_id, worker_id, backend, leased_at, lease_expires_at
)
SELECT job.user_id, prompt, checkpoint_model, route_key, 0, 'running', 1, gen_random_uuid(),
    'the same', workers.id, 'box-1/gpu0', now(), now() + interval '1 hour'
FROM generation_jobs AS job, workers WHERE job.id = %s RETURNING id
"""


async def held(client: ProtocolClient, call: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
    """A call on the client's connection that has arrived, and found nothing."""
    task = asyncio.create_task(call)
    for _ in range(3):  # behind it on the same connection
        await client.list_jobs(page_size=1)
    assert not task.done()
    return task


async def routed(client: ProtocolClient, worker: ProtocolWorker) -> int:
    """A finished job, whose needs are known from now on."""
    job = await client.create()
    await worker.complete(await worker.lease_one())
    return job.id


async def test_it_takes_one_statement(client: ProtocolClient, worker: ProtocolWorker) -> None:
    await routed(client, worker)
    waiting = await held(client, worker.lease_one(wait=30))
    with statements_sent() as sent:
        job = await client.create()
        lease = await waiting
    assert (lease.job_id, lease.attempt) == (job.id, 1)
    looks = [text for text, _ in sent if b"AS adopter" in text]
    claims = [text for text, _ in sent if b"INSERT INTO job_attempts" in text]
    assert looks == claims
    assert len(claims) == 1
    assert (await client.get(job.id)).status == RUNNING


async def test_the_one_that_has_waited_longest_goes_first_also_if_nobody_was_told_of_it(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    done = await routed(client, worker)
    waiting = await held(client, worker.lease_one(wait=30))
    (untold,) = await (await sql.execute(UNTOLD, [done])).fetchone() or (0,)
    job = await client.create()
    assert (await waiting).job_id == untold
    assert (await client.get(job.id)).status == PENDING
    assert (await worker.lease_one()).job_id == job.id


async def test_of_two_workers_that_wait_each_gets_the_one_it_can_run(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    other = ProtocolWorker(channel, "box-2", checkpoints=["other.safetensors"])
    await other.report_catalogue()
    await routed(client, worker)
    first = await held(client, worker.lease_one(wait=30))
    second = await held(client, other.lease_one(wait=30))
    foreign = await client.create(checkpoint_model="other.safetensors")
    assert (await second).job_id == foreign.id
    job = await client.create()
    assert (await first).job_id == job.id


async def test_a_worker_that_has_one_slot_gets_one_of_several(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await routed(client, worker)
    waiting = await held(client, worker.lease(wait=30))
    jobs = await asyncio.gather(*(client.create() for _ in range(5)))
    (first,) = await waiting
    others = await worker.lease(max_jobs=5)
    assert first.job_id == min(job.id for job in jobs)
    assert [one.job_id for one in others] == sorted({job.id for job in jobs} - {first.job_id})


async def test_a_call_that_is_held_twice_is_leased_one_job(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await routed(client, worker)
    first = await held(client, worker.lease_one(wait=30, request_id="the same"))
    again = await held(client, worker.lease_one(wait=30, request_id="the same"))
    job = await client.create()
    assert [(await call).job_id for call in (first, again)] == [job.id, job.id]


async def test_a_call_whose_other_half_was_leased_a_job_elsewhere_is_leased_no_other(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    done = await routed(client, worker)
    waiting = await held(client, worker.lease_one(wait=30, request_id="the same"))
    (leased,) = await (await sql.execute(LEASED_ELSEWHERE, [done])).fetchone() or (0,)
    job = await client.create()
    assert (await waiting).job_id == leased
    assert (await client.get(job.id)).status == PENDING
