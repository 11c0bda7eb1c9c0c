"""Twenty thousand hostile requests over real sockets, and the service is none the worse.

``FUZZ_SEED`` and ``FUZZ_REQUESTS`` choose others; the same seed sends the same requests.
"""

import asyncio
import gc
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import grpc
import pytest

from tests.end_to_end.real_processes import serving
from tests.fuzz.attackers import Attackers, Attempt
from tests.fuzz.hostile_messages import HostileMessages
from tests.fuzz.known_values import learn
from tests.fuzz.vitals import Vitals, WatchedService
from tests.hostile_text import hostile_texts
from tests.jobs_protocol import ProtocolClient

SEED: Final = os.environ.get("FUZZ_SEED", "8")
REQUESTS: Final = int(os.environ.get("FUZZ_REQUESTS", "20000"))
ROUND: Final = 1_000
#: Rounds until everything that is filled once is full.
WARM_UP: Final = 6
AT_ONCE: Final = 48
MIB: Final = 1024**2


@pytest.fixture
async def watched(tmp_path: Path, database_url: str) -> AsyncIterator[WatchedService]:
    service = WatchedService(
        tmp_path,
        database_url,
        JOB_SERVICE_LEASE_TTL="4",
        # Each connection keeps something of each statement: of few there is all of it soon.
        JOB_SERVICE_DATABASE_POOL_SIZE="2",
    )
    async with AsyncExitStack() as stack:
        await serving(stack, service.process, service.address)
        yield service


@pytest.mark.heavy
@pytest.mark.timeout(1200)
async def test_hostile_requests_leave_nothing_behind(watched: WatchedService) -> None:
    before = await seconds_of_a_request(watched.address)
    idle = await settled(watched)
    attempts: list[Attempt] = []
    history: list[Vitals] = []
    for number in range(-(-REQUESTS // ROUND)):
        attempts += await attack(watched.address, number)
        complaints = [attempt for attempt in attempts if attempt.complaint]
        assert watched.process.exit_code is None
        assert not complaints, "\n".join(map(str, complaints[:10]))
        assert not watched.troubles()[:10]
        history.append(await settled(watched, idle))
    after = await seconds_of_a_request(watched.address)
    report(attempts, history, before, after)

    assert len(attempts) >= REQUESTS
    warm, last = history[:WARM_UP], history[-1]
    # What is remembered are a few names that nobody had said before. Resident memory goes up and
    # down by more than that, as its allocator likes.
    assert last.objects < 1.05 * max(one.objects for one in warm)
    grown = median(one.resident for one in history[-5:]) - max(one.resident for one in warm)
    assert grown < 48 * MIB
    assert last.files <= max(one.files for one in warm)
    assert last.connections <= max(one.connections for one in warm)
    assert after < 5 * before


async def attack(address: str, number: int) -> list[Attempt]:
    """One round: learn what there is to know, then send everything, some at a time."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_metadata_size", 64 * 1024)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        known = await learn(channel, number)
        random = Random(f"{SEED}/{number}")
        messages = HostileMessages(random, known, hostile_texts())
        attackers = Attackers(channel, address)
        places = asyncio.Semaphore(AT_ONCE)
        attempts: list[Attempt] = []

        async with asyncio.TaskGroup() as sending:
            for _ in range(ROUND):
                await places.acquire()
                planned = attackers.plan(random, messages)

                async def one(planned=planned) -> None:  # type: ignore[no-untyped-def]
                    try:
                        attempts.append(await planned())
                    finally:
                        places.release()

                sending.create_task(one())
    return attempts


async def settled(watched: WatchedService, idle: Vitals | None = None) -> Vitals:
    """How the service is once nothing of what was done to it goes on."""
    gc.collect()  # of our own calls, which would keep their connection open
    deadline = time.monotonic() + 60
    while True:
        vitals = await watched.vitals()
        if vitals.busy == vitals.callers == 0 and (idle is None or vitals.tasks <= idle.tasks):
            return vitals
        assert time.monotonic() < deadline, f"{vitals} instead of {idle}"
        await asyncio.sleep(0.1)


async def seconds_of_a_request(address: str) -> float:
    """The median time of creating a job and reading it again."""
    async with grpc.aio.insecure_channel(address) as channel:
        client = ProtocolClient(channel)
        times = []
        for _ in range(60):
            began = time.perf_counter()
            created = await client.create()
            assert (await client.get(created.id)).prompt == created.prompt
            times.append(time.perf_counter() - began)
    return median(times)


def report(attempts: list[Attempt], history: list[Vitals], before: float, after: float) -> None:
    """Say what was done and what came of it."""
    for kind, count in Counter(attempt.kind for attempt in attempts).most_common():
        statuses = Counter(
            status for one in attempts if one.kind == kind for status in one.statuses
        )
        print(f"{count:6} {kind}: {dict(statuses.most_common())}")
    print("resident MiB:", [one.resident // MIB for one in history])
    print("objects:", [one.objects for one in history])
    print("last:", history[-1])
    print(f"a request: {before * 1000:.1f} ms before, {after * 1000:.1f} ms after")
