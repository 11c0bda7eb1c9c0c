"""What it costs to wait."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.worker_protocol import ProtocolWorker

SECONDS = 10


@contextmanager
def counted_statements() -> Iterator[Counter[str]]:
    """Every statement that this process sends to PostgreSQL inside the block, by its text."""
    counts: Counter[str] = Counter()

    def count(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        counts[text] += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield counts
    finally:
        event.remove(Engine, "before_cursor_execute", count)


async def test_an_idle_service_with_a_waiting_worker_asks_the_database_less_than_once_a_second(
    worker: ProtocolWorker,
) -> None:
    await worker.lease(wait=0)
    await worker.beat()
    with counted_statements() as counts:
        # Both calls are held for ten seconds: nothing happens.
        leases, answer = await asyncio.gather(worker.lease(wait=SECONDS), worker.beat(wait=SECONDS))
    assert not leases
    assert not answer.verdicts
    assert counts.total() < SECONDS, [(n, t[:60]) for t, n in counts.most_common()]
