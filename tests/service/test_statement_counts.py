"""How many statements a read takes does not depend on how much there is to read."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient
from tests.service_fixture import Sql
from tests.statements_sent import statements_of_calls
from tests.worker_protocol import ProtocolWorker

Read = Callable[[ProtocolClient], Awaitable[Any]]


def listing(**fields: Any) -> Read:
    return lambda client: client.list_jobs(page_size=1000, **fields)


def stats(*group_by: "pb.StatsDimension.ValueType", include_storage: bool = False) -> Read:
    request = pb.GetJobStatsRequest(group_by=group_by, include_storage=include_storage)
    return lambda client: client.stub.GetJobStats(request, timeout=20)


def queue(client: ProtocolClient) -> Awaitable[Any]:
    return client.stub.GetQueueStats(pb.GetQueueStatsRequest(), timeout=20)


#: Each read, and at most how many statements it takes when nothing is remembered yet: what route
#: keys mean and what live workers offer are two of them.
READS: Final[list[tuple[str, Read, int]]] = [
    ("ListJobs", listing(), 3),
    ("ListJobs with the total", listing(include_total=True), 4),
    ("ListJobs in view FULL", listing(view=job_pb2.JOB_VIEW_FULL), 5),
    *(
        (f"ListJobs by {pb.JobOrder.Name(order)}", listing(order_by=order), 3)
        for order in pb.JobOrder.values()
    ),
    ("ListJobs of some states", listing(filter={"statuses": [1, 2, 3]}, include_total=True), 4),
    ("GetJob of a job that waits", lambda client: client.get(2), 3),
    ("GetJob of a job that is done", lambda client: client.get(1), 3),
    ("GetJobStats", stats(), 1),
    ("GetJobStats with the files", stats(pb.STATS_DIMENSION_USER, include_storage=True), 1),
    *(
        (f"GetJobStats by {pb.StatsDimension.Name(one)}", stats(one), 1)
        for one in pb.StatsDimension.values()[1:]
    ),
    ("GetQueueStats", queue, 4),
]

# As many jobs again as there are, times n, each needing a checkpoint of its own.
MULTIPLY: Final = """
WITH copy AS (
    SELECT job.*, n FROM generation_jobs AS job, generate_series(1, 60) AS n
), key AS (
    INSERT INTO route_keys (digest, needs)
    SELECT sha256(CAST(n || '/' || id AS bytea)), jsonb_build_object(
        'backend_label', 'comfyui', 'checkpoint', n || '/' || id, 'job_type', 'image',
        'loras', '[]'::jsonb, 'node_classes', '[]'::jsonb
    ) FROM copy RETURNING id, needs ->> 'checkpoint' AS checkpoint
)
INSERT INTO generation_jobs (
    prompt, user_id, status, completed_at, attempt, route_key, dispatchable, virtual_start
)
SELECT prompt, gen_random_uuid(), status, completed_at, attempt, key.id, dispatchable, virtual_start
FROM copy JOIN key ON key.checkpoint = copy.n || '/' || copy.id
"""


@pytest.mark.parametrize("table", ["small", "large"])
async def test_a_read_takes_a_constant_number_of_statements(
    service_settings: Settings,
    sql: Sql,
    subtests: pytest.Subtests,
    table: str,
) -> None:
    async with (
        server.running(service_settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client, worker = ProtocolClient(channel), ProtocolWorker(channel)
        await worker.report_catalogue()
        for _ in range(3):
            await client.create()
        lease = await worker.lease_one()
        await worker.complete(lease, await worker.upload(lease, b"picture"))
    if table == "large":
        await sql.execute(MULTIPLY)
    for name, read, most in READS:
        # A service that has just started knows only what the newest job needs.
        async with (
            server.running(service_settings) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            client = ProtocolClient(channel)
            await client.create(request_id="newest", checkpoint_model="newest.safetensors")
            with subtests.test(name), statements_of_calls() as sent:
                await read(client)
                texts = Counter(text for text, _ in sent)
                assert 1 <= texts.total() <= most, texts
                assert max(texts.values()) == 1, "one statement for all rows"
