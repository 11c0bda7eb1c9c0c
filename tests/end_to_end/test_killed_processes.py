"""What a kill -9 costs: no job, no second render, and never a second outcome."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import grpc
import psycopg
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import (
    job_error_pb2,
    job_pb2,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.end_to_end.installation import Installation, rest, submit
from tests.end_to_end.real_processes import until_serving_again

pytestmark = pytest.mark.heavy


async def test_another_worker_finishes_the_job_of_a_killed_one_whose_late_report_is_refused(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    here = Installation(
        stack, tmp_path, JOB_SERVICE_LEASE_TTL="2", JOB_SERVICE_DATABASE_URL=database_url
    )
    client = await here.start()
    first, second = await here.simulator(), await here.simulator()
    hold = first.faults.hold(step=3)
    doomed = await here.worker("doomed", first)
    job_id = await submit(client)
    async with asyncio.timeout(20):
        await hold.reached()
    await doomed.kill()
    await here.worker("heir", second)

    job = await rest(client, job_id)

    assert job.status == job_pb2.JOB_STATUS_COMPLETED
    assert job.worker == "heir"
    assert [(one.worker, one.charged) for one in job.attempts] == [
        ("doomed", True),
        ("heir", False),
    ]
    assert job.attempts[0].error.code == job_error_pb2.ERROR_CODE_WORKER_LOST
    reason = await complete_with_the_token_of_attempt(1, job_id, here.address, database_url)
    assert reason == "LEASE_LOST"
    again = (await client.stub.GetJob(pb.GetJobRequest(id=job_id))).job
    assert again.etag == job.etag


async def complete_with_the_token_of_attempt(
    attempt: int, job_id: int, address: str, database_url: str
) -> str:
    """What a worker that comes back from the dead hears when it reports success."""
    plain = database_url.replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(plain) as connection:
        cursor = await connection.execute(
            "SELECT lease_token FROM job_attempts WHERE job_id = %s AND attempt = %s",
            (job_id, attempt),
        )
        row = await cursor.fetchone()
    assert row is not None
    async with grpc.aio.insecure_channel(address) as channel:
        stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
        request = worker_service_pb2.CompleteJobRequest(
            worker=worker_service_pb2.WorkerIdentity(name="doomed", instance_id=str(uuid4())),
            lease=worker_service_pb2.LeaseRef(job_id=job_id, lease_token=str(row[0])),
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CompleteJob(request, timeout=10)
    assert refused.value.code() is grpc.StatusCode.ABORTED
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


async def test_a_worker_restarted_under_its_name_takes_over_at_once_and_adopts_the_render(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    # The lease would last for minutes: only the takeover can free the job within the test.
    here = Installation(
        stack, tmp_path, JOB_SERVICE_LEASE_TTL="600", JOB_SERVICE_DATABASE_URL=database_url
    )
    client = await here.start()
    simulator = await here.simulator()
    hold = simulator.faults.hold(step=3)
    worker = await here.worker("box", simulator)
    job_id = await submit(client)
    async with asyncio.timeout(20):
        prompt_id = await hold.reached()
    await worker.kill()
    worker.start()
    async with asyncio.timeout(20):
        # The successor has the job as soon as the watch says so; only then does the render go on.
        async for event in client.watch(job_id):
            if event.job.attempt == 2:
                break
    hold.release()

    job = await rest(client, job_id)

    assert job.status == job_pb2.JOB_STATUS_COMPLETED
    assert job.attempt == 2
    assert job.comfyui_prompt_id == prompt_id
    assert simulator.signals.rendered == {prompt_id: 1}


async def test_a_killed_job_service_loses_nothing_and_the_render_goes_on(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    # No database is given: the embedded PostgreSQL has to survive the kill as well.
    here = Installation(stack, tmp_path)
    client = await here.start()
    simulator = await here.simulator()
    hold = simulator.faults.hold(step=3)
    await here.worker("box", simulator)
    running = await submit(client)
    waiting = [await submit(client, labels={"turn": str(turn)}) for turn in range(3)]
    async with asyncio.timeout(20):
        await hold.reached()
    await here.service.kill()
    hold.release()
    async with asyncio.timeout(20):
        await simulator.signals.wait_until(lambda: sum(simulator.signals.rendered.values()) >= 1)
    here.service.start()
    await until_serving_again(here.address)

    jobs = [await rest(client, job_id) for job_id in (running, *waiting)]

    assert [job.status for job in jobs] == [job_pb2.JOB_STATUS_COMPLETED] * 4
    assert [(job.attempt, job.attempts_charged) for job in jobs] == [(1, 0)] * 4
    assert [job.labels["turn"] for job in jobs[1:]] == ["0", "1", "2"]
    assert sorted(simulator.signals.rendered.values()) == [1] * 4
    assert all(len(job.artifacts) == 4 for job in jobs)
