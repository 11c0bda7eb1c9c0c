"""Jobs that the former system had not finished go on here."""

from collections.abc import AsyncIterator

import grpc
import psycopg
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from job_service import server
from tests.jobs_protocol import COMPLETED, FAILED, PENDING, ProtocolClient
from tests.legacy_import.conftest import Settle
from tests.legacy_import.importing import Move
from tests.legacy_import.old_content import stored
from tests.legacy_import.oracle import nothing_is_lost
from tests.legacy_import.reading import reading, settings_for
from tests.legacy_import.samples import SHAPES, sample
from tests.worker_protocol import ProtocolWorker

pytestmark = pytest.mark.former


@pytest.fixture
def move(settle: Settle) -> Move:
    return settle(sample(SHAPES["B"]))


@pytest.fixture
async def channel(move: Move) -> AsyncIterator[grpc.aio.Channel]:
    """A service over what was imported."""
    move.run("--cutover")
    async with (
        server.running(settings_for(move.target, move.folder)) as address,
        grpc.aio.insecure_channel(address) as connection,
    ):
        yield connection


def able_worker(channel: grpc.aio.Channel) -> ProtocolWorker:
    """One that has every model the sample names."""
    return ProtocolWorker(channel, loras=("detail.safetensors",))


async def test_a_worker_gets_every_unfinished_job_and_completes_it(
    channel: grpc.aio.Channel, move: Move
) -> None:
    client, worker = ProtocolClient(channel), able_worker(channel)
    await worker.report_catalogue()
    listed = await client.list_jobs(
        filter=job_pb2.JobFilter(statuses=[PENDING], job_types=[job_pb2.JOB_TYPE_IMAGE])
    )
    waiting = {job.id for job in listed.jobs}
    assert len(waiting) >= 3, "of both tables"
    for _ in range(len(waiting)):
        lease = await worker.lease_one()
        assert lease.job_id in waiting
        picture = await worker.upload(lease, b"picture")
        assert await worker.complete(lease, picture) == COMPLETED
        waiting.remove(lease.job_id)
        job = await client.get(lease.job_id)
        assert [one.sha256 for one in job.artifacts] == [picture.sha256]
    assert not waiting


async def test_a_failed_job_can_be_retried(channel: grpc.aio.Channel) -> None:
    client, worker = ProtocolClient(channel), able_worker(channel)
    await worker.report_catalogue()
    failed = await client.list_jobs(filter=job_pb2.JobFilter(statuses=[FAILED]))
    (again,) = (
        job
        for job in failed.jobs
        if "node 4 failed" in (job.error.message, job.error.technical_details)
    )
    answer = await client.stub.RetryJob(pb.RetryJobRequest(id=again.id), timeout=20)
    assert answer.job.status == PENDING
    while (lease := await worker.lease_one()).job_id != again.id:
        await worker.complete(lease)
    assert await worker.complete(lease) == COMPLETED


@pytest.mark.heavy
async def test_jobs_that_ran_can_be_failed_instead(move: Move) -> None:
    with psycopg.connect(move.old) as connection:
        old = stored(connection)
    move.run("--cutover", "--running", "fail")
    new = await reading(move.target, move.folder, list(old.requests))
    nothing_is_lost(old, new, running="fail")
