"""BatchCreateJobs: all of them or none."""

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from tests.jobs_protocol import PENDING, ProtocolClient, a_job, refused
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker


def request(*prompts: str, request_ids: tuple[str, ...] = ()) -> pb.BatchCreateJobsRequest:
    ids = request_ids or ("",) * len(prompts)
    return pb.BatchCreateJobsRequest(
        requests=[
            pb.CreateJobRequest(job=a_job(prompt=prompt), request_id=request_id)
            for prompt, request_id in zip(prompts, ids, strict=True)
        ]
    )


async def send(
    client: ProtocolClient, batch: pb.BatchCreateJobsRequest
) -> list[job_pb2.GenerationJob]:
    return list((await client.stub.BatchCreateJobs(batch, timeout=30)).jobs)


async def count(sql: Sql) -> int:
    row = await (await sql.execute("SELECT count(*) FROM generation_jobs")).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_thousand_jobs_are_stored_in_their_order_and_leased_in_it(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    jobs = await send(client, request(*(f"picture {n}" for n in range(1000))))
    assert [job.prompt for job in jobs] == [f"picture {n}" for n in range(1000)]
    assert all(job.status == PENDING for job in jobs)
    leases = await worker.lease(8)
    assert [lease.job_id for lease in leases] == [job.id for job in jobs[:8]]


async def test_a_waiting_worker_is_woken(client: ProtocolClient, worker: ProtocolWorker) -> None:
    jobs = await send(client, request("one"))
    assert (await worker.lease_one()).job_id == jobs[0].id


async def test_one_wrong_job_keeps_all_from_being_stored_and_every_violation_is_named(
    client: ProtocolClient, sql: Sql
) -> None:
    error = await refused(send(client, request("one", "", "three", " ")))
    assert error.status is grpc.StatusCode.INVALID_ARGUMENT
    assert set(error.fields) == {"requests[1].job.prompt", "requests[3].job.prompt"}
    assert await count(sql) == 0


async def test_a_reused_request_id_keeps_all_from_being_stored(
    client: ProtocolClient, sql: Sql
) -> None:
    await client.create(prompt="first", request_id="a")
    batch = request("new", "not the first", request_ids=("b", "a"))
    error = await refused(send(client, batch))
    assert (error.status, error.reason) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )
    assert await count(sql) == 1


async def test_repeating_a_batch_answers_the_same_jobs(client: ProtocolClient, sql: Sql) -> None:
    batch = request("one", "two", request_ids=("1", "2"))
    first = await send(client, batch)
    assert [job.id for job in await send(client, batch)] == [job.id for job in first]
    assert await count(sql) == 2


async def test_a_batch_names_one_request_id_twice(client: ProtocolClient, sql: Sql) -> None:
    jobs = await send(client, request("one", "one", request_ids=("1", "1")))
    assert jobs[0].id == jobs[1].id
    error = await refused(send(client, request("one", "two", request_ids=("3", "3"))))
    assert error.reason == "REQUEST_ID_REUSED"
    assert await count(sql) == 1


async def test_too_many_and_too_few_are_refused(client: ProtocolClient) -> None:
    for batch in (request(), request(*("x",) * 1001)):
        error = await refused(send(client, batch))
        assert error.status is grpc.StatusCode.INVALID_ARGUMENT
        assert set(error.fields) == {"requests"}


async def test_an_answer_that_would_be_too_large_is_cut_to_ids(client: ProtocolClient) -> None:
    jobs = await send(client, request(*("🦊" * 9000,) * 100))
    assert all(job.id and job.status == PENDING for job in jobs)
    assert len(jobs[0].prompt) == 9000
    assert not jobs[-1].prompt
