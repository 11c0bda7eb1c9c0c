"""An artifact store that fails costs nobody but those who need it."""

import asyncio
from typing import Any

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from google.protobuf import timestamp_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient, refused
from tests.service.test_delete_job import deletions
from tests.service_fixture import Sql, StoredFiles
from tests.worker_protocol import ProtocolWorker

SERVING = health_pb2.HealthCheckResponse.SERVING


async def test_files_that_cannot_be_removed_wait_and_the_service_goes_on(
    client: ProtocolClient,
    worker: ProtocolWorker,
    channel: grpc.aio.Channel,
    sql: Sql,
    service_settings: Settings,
    stored_files: StoredFiles,
) -> None:
    jobs = [await client.create() for _ in range(2)]
    for lease in await worker.lease(max_jobs=2):
        await worker.complete(lease, await worker.upload(lease, b"picture"))
    # A directory in its place cannot be removed as a file.
    (path,) = (service_settings.data_dir / "artifacts" / "jobs" / f"{jobs[1].id}").rglob("0-output")
    path.unlink()
    path.mkdir()
    health: Any = health_pb2_grpc.HealthStub(channel)
    heard: list[int] = []

    async def listen() -> None:
        answers = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        while True:
            heard.append((await answers.read()).status)

    listening = asyncio.create_task(listen())
    for job in jobs:
        await client.delete(job.id)
    async with asyncio.timeout(30):
        while stored_files():
            await client.list_jobs(page_size=1)

    # what the upkeep does meanwhile
    soon = timestamp_pb2.Timestamp()
    soon.GetCurrentTime()
    soon.seconds += 1
    scheduled = await client.create(scheduled_at=soon)
    (lease,) = await worker.lease(wait=30)
    assert lease.job_id == scheduled.id
    await client.delete(scheduled.id, cancel=True)
    async with deletions(sql, "generation_jobs", 1):
        await worker.release(lease)
    assert (await refused(client.get(scheduled.id))).reason == "JOB_NOT_FOUND"
    queue = await client.stub.GetQueueStats(pb.GetQueueStatsRequest(), timeout=20)
    assert queue.pending == 0

    path.rmdir()
    async with asyncio.timeout(60):
        while await (await sql.execute("SELECT FROM job_artifacts")).fetchone():
            await client.list_jobs(page_size=1)
    listening.cancel()
    assert heard == [SERVING]
