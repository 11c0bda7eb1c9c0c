"""What our service says of the jobs in a database, over gRPC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient


@dataclass(frozen=True)
class Reading:
    """Every job by its id, as GetJob answers, and those that are found by a request's former id."""

    jobs: Mapping[int, job_pb2.GenerationJob]
    by_request: Mapping[int, job_pb2.GenerationJob]


def settings_for(database_url: str, folder: Path) -> Settings:
    """A service on an imported database."""
    return Settings(
        database_url=database_url,
        data_dir=folder,
        listen="127.0.0.1:0",
        shutdown_grace=timedelta(seconds=2),
    )


async def reading(database_url: str, folder: Path, request_ids: list[int]) -> Reading:
    """Read everything through a service of its own."""
    async with (
        server.running(settings_for(database_url, folder)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        return await read_all(ProtocolClient(channel), request_ids)


async def read_all(client: ProtocolClient, request_ids: list[int]) -> Reading:
    """List all jobs page by page, get each of them, and look for former requests."""
    listed: dict[int, job_pb2.GenerationJob] = {}
    token = ""
    while True:
        page = await client.list_jobs(page_size=1000, page_token=token, view=job_pb2.JOB_VIEW_FULL)
        for job in page.jobs:
            assert job.id not in listed, "on two pages"
            listed[job.id] = job
        token = page.next_page_token
        if not token:
            break
    jobs = {job_id: await client.get(job_id) for job_id in listed}
    for job_id, job in jobs.items():
        assert job.params_json == listed[job_id].params_json
        assert job.artifacts == listed[job_id].artifacts
    by_request = {}
    for request_id in request_ids:
        found = await client.list_jobs(
            filter=job_pb2.JobFilter(legacy_request_id=request_id), view=job_pb2.JOB_VIEW_FULL
        )
        assert len(found.jobs) <= 1, f"request {request_id} is several jobs"
        if found.jobs:
            by_request[request_id] = jobs[found.jobs[0].id]
    return Reading(jobs, by_request)


async def reading_and_creating(
    database_url: str, folder: Path, request_ids: list[int]
) -> tuple[Reading, job_pb2.GenerationJob]:
    """Read everything, and create a job, which is deleted again, through the same service."""
    async with (
        server.running(settings_for(database_url, folder)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client = ProtocolClient(channel)
        return await read_all(client, request_ids), await _created(client)


async def created(database_url: str, folder: Path) -> job_pb2.GenerationJob:
    """A new job, as a client creates it after an import."""
    async with (
        server.running(settings_for(database_url, folder)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        return await _created(ProtocolClient(channel))


async def _created(client: ProtocolClient) -> job_pb2.GenerationJob:
    answer = await client.send(
        pb.CreateJobRequest(
            job=job_pb2.GenerationJob(prompt="new", checkpoint_model="sdxl.safetensors")
        )
    )
    await client.delete(answer.id, cancel=True)
    return answer
