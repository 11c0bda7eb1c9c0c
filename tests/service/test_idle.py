"""What it costs to wait."""

import asyncio
from collections import Counter

from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker

SECONDS = 10


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
