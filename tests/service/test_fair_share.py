"""Fair share between users, on the real queue."""

import asyncio
from itertools import pairwise
from uuid import uuid4

from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from job_service.jobs.limits import Limits
from job_service.jobs.principal import LOCAL
from job_service.jobs.validation import new_job
from job_service.store.admission import UserCaps
from job_service.store.creation import JobCreation
from job_service.store.database import Database
from job_service.store.fair_share import TURN
from job_service.store.route_keys import RouteKeys
from tests.jobs_protocol import ProtocolClient, a_job
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker

ANNA, BORIS = str(uuid4()), str(uuid4())


async def run_next(worker: ProtocolWorker) -> int:
    """Lease one job with one slot and complete it; its id."""
    lease = await worker.lease_one()
    await worker.complete(lease)
    return lease.job_id


async def ten_thousand_jobs(client: ProtocolClient, sql: Sql, user: str) -> None:
    """Give a user 10,000 pending jobs: the first through the API, the others as copies of it."""
    first = await client.create(user_id=user)
    await sql.execute(
        """
        INSERT INTO generation_jobs (
            user_id, prompt, checkpoint_model, width, height, batch_size, seed, route_key,
            dispatchable, virtual_start
        )
        SELECT user_id, prompt, checkpoint_model, width, height, batch_size, seed, route_key,
            true, virtual_start + n * CAST(%s AS bigint)
        FROM generation_jobs, generate_series(1, 9999) AS n WHERE id = %s
        """,
        (TURN, first.id),
    )
    await sql.execute(
        "UPDATE user_clocks SET virtual_finish = virtual_finish + %s WHERE user_id = %s",
        (9999 * TURN, user),
    )


async def test_one_users_ten_thousand_jobs_delay_anothers_by_one_turn_each(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    await ten_thousand_jobs(client, sql, ANNA)
    for _ in range(5):
        await run_next(worker)
    boris = [(await client.create(user_id=BORIS)).id for _ in range(10)]

    order = [await run_next(worker) for _ in range(20)]

    assert [job_id for job_id in order if job_id in boris] == boris
    turns = [job_id in boris for job_id in order]
    # Alternately from the next lease on: whoever goes first, nobody goes twice in a row.
    assert all(before != after for before, after in pairwise(turns))


async def test_priority_goes_before_fairness(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    anna = [(await client.create(user_id=ANNA, priority=1)).id for _ in range(3)]
    boris = [(await client.create(user_id=BORIS)).id for _ in range(2)]
    assert [await run_next(worker) for _ in range(5)] == [*anna, *boris]


async def test_a_users_own_jobs_run_first_come_first_served(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    jobs = [(await client.create(user_id=ANNA)).id for _ in range(6)]
    assert [await run_next(worker) for _ in jobs] == jobs


async def test_a_user_who_was_away_starts_at_the_present_not_in_the_past(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    anna = [(await client.create(user_id=ANNA)).id for _ in range(6)]
    for _ in range(4):
        await run_next(worker)
    boris = [(await client.create(user_id=BORIS)).id for _ in range(4)]
    # Four turns that Boris did not ask for are not owed to him.
    assert [await run_next(worker) for _ in range(3)] == [boris[0], anna[4], boris[1]]


async def test_a_user_of_twice_the_weight_gets_twice_the_turns(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    await sql.execute("INSERT INTO user_shares (user_id, weight) VALUES (%s, 2)", (BORIS,))
    for _ in range(9):
        await client.create(user_id=ANNA)
    boris = [(await client.create(user_id=BORIS)).id for _ in range(9)]
    order = [await run_next(worker) for _ in range(9)]
    assert sum(job_id in boris for job_id in order) == 6


async def test_a_job_that_failed_keeps_its_place(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    first, *others = [(await client.create(user_id=ANNA)).id for _ in range(3)]
    lease = await worker.lease_one()
    assert lease.job_id == first
    await worker.release(lease)
    assert [await run_next(worker) for _ in range(3)] == [first, *others]


async def test_a_job_that_waited_for_tomorrow_does_not_run_ahead_of_everybody(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    scheduled = a_job(user_id=BORIS)
    scheduled.scheduled_at.GetCurrentTime()
    scheduled.scheduled_at.seconds += 3600
    tomorrow = (await client.send(pb.CreateJobRequest(job=scheduled))).id
    anna = [(await client.create(user_id=ANNA)).id for _ in range(5)]
    for _ in range(3):
        await run_next(worker)
    async with client.watching(tomorrow) as watch:
        await sql.execute(
            "UPDATE generation_jobs SET not_before = now() WHERE id = %s", (tomorrow,)
        )
        while watch.job.pending_reason != job_pb2.PENDING_REASON_QUEUED:
            await watch.next_job()
    rows = await (
        await sql.execute(
            "SELECT virtual_start FROM generation_jobs WHERE id = ANY(%s) ORDER BY id",
            ([tomorrow, anna[2]],),
        )
    ).fetchall()
    # Its tag is of the time it became due, not of the time it was created.
    assert rows[0] >= rows[1]


async def test_sixteen_connections_that_insert_at_once_give_every_job_its_own_tag(
    database_url: str, sql: Sql
) -> None:
    """Sixteen replicas, so to speak: nothing joins their statements."""
    databases = [Database(database_url, pool_size=1) for _ in range(16)]
    stores = [JobCreation(database, RouteKeys(database), UserCaps()) for database in databases]

    async def insert(store: JobCreation) -> None:
        for turn in range(25):
            # Both users in both orders, so that statements could deadlock if they were careless.
            users = (ANNA, BORIS) if turn % 2 else (BORIS, ANNA)
            await asyncio.gather(
                *(
                    store.create(
                        new_job(pb.CreateJobRequest(job=a_job(user_id=user)), LOCAL, Limits())
                    )
                    for user in users
                )
            )

    try:
        await asyncio.gather(*map(insert, stores))
    finally:
        for database in databases:
            await database.close()
    rows = await (
        await sql.execute(
            "SELECT user_id, count(*), count(DISTINCT virtual_start), max(virtual_start)"
            " FROM generation_jobs GROUP BY user_id"
        )
    ).fetchall()
    assert [row[1:] for row in rows] == [(400, 400, 399 * TURN)] * 2
