"""Reads of a table of 200,000 jobs go through its indexes, whatever is asked."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import combinations
from typing import Any, Final

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from google.protobuf import timestamp_pb2

from job_service import server
from job_service.settings import Settings
from tests.generic_plan import plan_of
from tests.jobs_protocol import CANCELLED, COMPLETED, FAILED, PENDING, RUNNING, ProtocolClient
from tests.service_fixture import Sql
from tests.statements_sent import statements_of_calls
from tests.worker_protocol import ProtocolWorker

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

# Copies of one job, created over 400 days: 5 % pending, the others ended in every way.
FILL: Final = """
INSERT INTO generation_jobs (
    user_id, job_type, prompt, negative_prompt, checkpoint_model, width, height, batch_size, seed,
    labels, backend_label, legacy_request_id, created_at, updated_at, started_at, completed_at,
    status, error, attempt, attempts_charged, route_key, dispatchable, virtual_start, not_before
)
SELECT CAST('00000000-0000-0000-0000-' || lpad(to_hex(n %% 500), 12, '0') AS uuid),
    CASE WHEN n %% 1000 = 7 THEN 'video' ELSE 'image' END,
    (ARRAY['foxes', 'ships', 'storms', 'towns'])[1 + n %% 4] || ' number ' || n, 'blurry',
    'model-' || n %% 40, 832, 1216, 1, n,
    CASE WHEN n %% 20 = 3 THEN jsonb_build_object('album', CAST(n %% 300 AS text)) ELSE '{}' END,
    CASE WHEN n %% 500 = 9 THEN 'kerniegen' ELSE 'comfyui' END,
    CASE WHEN n < 5000 THEN n END,
    at, at + interval '40 s',
    CASE WHEN job.status IN ('completed', 'failed') THEN at + interval '9 s' END,
    CASE WHEN job.status <> 'pending' THEN at + interval '40 s' END,
    job.status,
    CASE job.status WHEN 'failed' THEN '{"code": "ERROR_CODE_NODE_FAILED"}'::jsonb END,
    CAST(job.status = 'completed' AS integer), 0,
    one.route_key, job.status = 'pending' AND n %% 3 > 0, n,
    CASE WHEN job.status = 'pending' AND n %% 3 = 0 THEN now() + interval '1 day' END
FROM generation_jobs AS one, generate_series(1, 200000) AS n,
    LATERAL (SELECT now() - interval '400 days' * (200000 - n) / 200000 AS at,
        CASE WHEN n > 190000 THEN 'pending' WHEN n %% 20 = 0 THEN 'failed'
            WHEN n %% 20 = 1 THEN 'cancelled' ELSE 'completed' END AS status) AS job
WHERE one.id = %s
"""
ATTEMPTS: Final = """
INSERT INTO job_attempts (
    job_id, attempt, lease_token, worker, instance_id, backend, leased_at, started_at, ended_at,
    outcome, status_after
)
SELECT id, 1, gen_random_uuid(), 'box-1', gen_random_uuid(), 'box-1/gpu0', created_at,
    started_at, completed_at, 'completed', 'completed'
FROM generation_jobs WHERE status = 'completed'
"""
ARTIFACTS: Final = """
INSERT INTO job_artifacts (
    job_id, attempt, role, position, filename, content_type, size, sha256, object_key, stored_at
)
SELECT id, 1, 'output', 0, 'p.png', 'image/png', 9, sha256('x'), 'jobs/' || id, now()
FROM generation_jobs WHERE status = 'completed'
"""
TABLES: Final = ("generation_jobs", "job_attempts", "job_artifacts")
USER: Final = "00000000-0000-0000-0000-000000000007"


def ago(days: int) -> timestamp_pb2.Timestamp:
    moment = timestamp_pb2.Timestamp()
    moment.GetCurrentTime()
    moment.seconds -= days * 86_400
    return moment


#: Values for each condition of a filter; some few jobs meet, some nearly all.
CONDITIONS: Final[dict[str, list[Any]]] = {
    "user_id": [USER],
    "statuses": [[COMPLETED], [FAILED], [PENDING, RUNNING], [COMPLETED, FAILED, CANCELLED]],
    "job_types": [[job_pb2.JOB_TYPE_IMAGE], [job_pb2.JOB_TYPE_VIDEO, job_pb2.JOB_TYPE_AUDIO]],
    "checkpoint_model": ["model-7", "nobody has this"],
    "labels": [{"album": "3"}],
    "created_after": [ago(30), ago(400)],
    "created_before": [ago(300)],
    "completed_after": [ago(7)],
    "completed_before": [ago(300)],
    "search": ["foxes 17", "zebra"],
    "backends": [["comfyui"], ["kerniegen"]],
    "legacy_request_id": [77],
    "ids": [[5, 6, 7]],
}


def filters() -> Iterator[job_pb2.JobFilter]:
    """None, every condition with each of its values, and every pair."""
    assert set(CONDITIONS) == {field.name for field in job_pb2.JobFilter.DESCRIPTOR.fields}
    yield job_pb2.JobFilter()
    for name, values in CONDITIONS.items():
        for value in values:
            yield job_pb2.JobFilter(**{name: value})
    for one, other in combinations(CONDITIONS, 2):
        yield job_pb2.JobFilter(**{one: CONDITIONS[one][0], other: CONDITIONS[other][-1]})


@asynccontextmanager
async def full_service(settings: Settings, sql: Sql) -> AsyncIterator[grpc.aio.Channel]:
    """A service on a full table; it does not run while that is filled and vacuumed."""
    async with (
        server.running(settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        worker = ProtocolWorker(channel)
        await worker.report_catalogue()
        job = await ProtocolClient(channel).create()
    # VACUUM takes no row for visible to all whose commit may still be lost.
    await sql.execute("SET synchronous_commit = on")
    for statement, parameters in ((FILL, [job.id]), (ATTEMPTS, []), (ARTIFACTS, [])):
        await sql.execute(statement.encode(), parameters or None)
    await sql.execute(f"VACUUM (ANALYZE) {', '.join(TABLES)}".encode())
    async with (
        server.running(settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


async def test_no_read_of_200_000_jobs_goes_through_the_whole_table(
    service_settings: Settings, sql: Sql
) -> None:
    async with full_service(service_settings, sql) as channel:
        client = ProtocolClient(channel)
        seen: set[bytes] = set()

        async def check(call: Awaitable[Any], of: Any) -> Any:
            """Every statement of the call; the same text is planned the same way."""
            with statements_of_calls() as sent:
                answer = await call
            for one in [one for one in sent if one[0] not in seen]:
                seen.add(one[0])
                for node in await plan_of(sql, one):
                    table = node.get("Relation Name")
                    assert table not in TABLES or node["Node Type"] != "Seq Scan", (
                        of, one, node,
                    )  # fmt: skip
            return answer

        def stats(**fields: Any) -> Callable[[], Awaitable[Any]]:
            request = pb.GetJobStatsRequest(**fields)
            return lambda: client.stub.GetJobStats(request, timeout=30)

        for wanted in filters():
            await check(stats(filter=wanted)(), wanted)
            await check(stats(filter=wanted, include_storage=True)(), (wanted, "files"))
            for order in pb.JobOrder.values()[1:]:
                page = await check(
                    client.list_jobs(
                        filter=wanted, order_by=order, page_size=1, include_total=True
                    ),
                    (wanted, order),
                )
                if page.next_page_token:
                    next_page = client.list_jobs(
                        filter=wanted,
                        order_by=order,
                        page_size=1,
                        page_token=page.next_page_token,
                        view=job_pb2.JOB_VIEW_FULL,
                    )
                    await check(next_page, (wanted, order, "next page"))
        for dimension in pb.StatsDimension.values()[1:]:
            await check(stats(group_by=[dimension])(), dimension)
            await check(stats(group_by=[dimension], include_storage=True)(), (dimension, "files"))
        await check(stats(group_by=pb.StatsDimension.values()[1:])(), "all dimensions")
        (newest,) = (await client.list_jobs(filter={"statuses": [COMPLETED]}, page_size=1)).jobs
        full = await client.get(newest.id)
        assert (len(full.attempts), len(full.artifacts)) == (1, 1)
        await check(client.get(newest.id), "GetJob")
        await check(client.stub.GetQueueStats(pb.GetQueueStatsRequest(), timeout=20), "queue")
    assert len(seen) > 200, "the statements were seen"
