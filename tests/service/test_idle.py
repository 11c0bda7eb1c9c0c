"""What it costs to wait."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from tests.jobs_protocol import ProtocolClient
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker

SECONDS = 10


@pytest.mark.heavy
async def test_an_idle_service_with_a_waiting_worker_asks_the_database_less_than_once_a_second(
    worker: ProtocolWorker,
) -> None:
    await worker.lease(wait=0)
    await worker.beat()
    with statements_sent() as statements:
        # Both calls are held for ten seconds: nothing happens.
        leases, answer = await asyncio.gather(worker.lease(wait=SECONDS), worker.beat(wait=SECONDS))
    assert not leases
    assert not answer.verdicts
    assert len(statements) < SECONDS, Counter(text[:60] for text, _ in statements).most_common()


@pytest.mark.heavy
async def test_watches_of_a_queue_that_does_not_move_add_little(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await worker.lease(wait=0)
    jobs = [await client.create() for _ in range(5)]
    async with AsyncExitStack() as watches:
        for job in jobs:
            await watches.enter_async_context(client.watching(job.id))
            await watches.enter_async_context(client.watching_jobs())
        await worker.beat(wait=SECONDS / 2)  # held, until all have had their first look
        with statements_sent() as statements:
            await worker.beat(wait=SECONDS)
    assert len(statements) <= SECONDS, Counter(text[:60] for text, _ in statements).most_common()
