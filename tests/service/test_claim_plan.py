"""The statements on the queue's hot path read short ranges of the indexes made for them."""

import asyncio

from tests.generic_plan import plan_of
from tests.jobs_protocol import ProtocolClient
from tests.service_fixture import Sql
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker

FILL = """
INSERT INTO generation_jobs
    (user_id, prompt, status, completed_at, route_key, dispatchable, virtual_start, not_before)
SELECT user_id, 'filler ' || n, s.status, CASE s.status WHEN 'completed' THEN now() END, route_key,
    s.status = 'pending' AND n %% 4 < 2, n, CASE WHEN n %% 4 = 3 THEN now() + interval '1 day' END
FROM generation_jobs AS one, generate_series(1, 20000) AS n,
    LATERAL (SELECT CASE WHEN n %% 2 = 0 THEN 'pending' ELSE 'completed' END) AS s (status)
WHERE one.id = %s
"""


async def lease_while_waiting(client: ProtocolClient, worker: ProtocolWorker) -> None:
    """Create a job while a call waits for it."""
    waiting = asyncio.create_task(worker.lease_one(wait=30))
    for _ in range(3):  # behind it on the same connection
        await client.list_jobs(page_size=1)
    await client.create()
    await waiting


async def test_leasing_touches_no_more_of_a_full_table_than_what_it_leases(
    client: ProtocolClient,
    worker: ProtocolWorker,
    sql: Sql,
) -> None:
    job = await client.create()
    await worker.complete(await worker.lease_one())
    with statements_sent() as statements:
        await lease_while_waiting(client, worker)
    (lone,) = (one for one in statements if b"INSERT INTO job_attempts" in one[0])
    assert b"AS adopter" in lone[0]
    await sql.execute(FILL, [job.id])
    await sql.execute("ANALYZE generation_jobs")
    with statements_sent() as statements:
        await worker.lease_one()

    peek, claim = (
        next(one for one in statements if mark in one[0] and one[0] != lone[0])
        for mark in (b"AS adopter", b"INSERT INTO job_attempts")
    )
    plans = {
        "peek": await plan_of(sql, peek, run=True),
        "claim": await plan_of(sql, claim, run=True),
        "lone": await plan_of(sql, lone, run=True),
    }

    for look in (plans["peek"], plans["lone"]):
        indexes = {node.get("Index Name") for node in look}
        assert {
            "generation_jobs_claim",
            "generation_jobs_adoption",
            "generation_jobs_running",
        } <= indexes
    for nodes in plans.values():
        for node in nodes:
            if node.get("Relation Name") == "generation_jobs":
                assert node["Node Type"] != "Seq Scan", node
                assert node["Actual Rows"] * node["Actual Loops"] <= 10, node
