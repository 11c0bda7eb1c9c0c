"""Where a watched job stands while it waits."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from tests.generic_plan import plan_of
from tests.jobs_protocol import RUNNING, ProtocolClient, Watch, in_an_hour
from tests.operator_protocol import ProtocolOperator
from tests.service_fixture import Sql
from tests.statements_sent import statements_sent
from tests.worker_protocol import CHECKPOINT, ProtocolWorker

OTHER = "other.safetensors"

FILL = """
INSERT INTO generation_jobs (user_id, prompt, route_key, dispatchable, virtual_start)
SELECT user_id, 'filler', route_key, true, virtual_start - 1
FROM generation_jobs, generate_series(1, %s) WHERE id = %s
"""


@pytest.fixture
async def worker(worker: ProtocolWorker) -> ProtocolWorker:
    """A worker that has said what it offers."""
    await worker.lease(wait=0)
    return worker


def _ahead(watch: Watch) -> int | None:
    """What the last message that held the job said."""
    return None if watch.position is None else watch.position.jobs_ahead


async def _reaches(watch: Watch, jobs_ahead: int | None) -> pb.WatchJobResponse:
    """The first message that says so; None: that says nothing of it."""
    while True:
        message = await watch.next_message()
        position = message.queue_position
        stands = position.jobs_ahead if message.HasField("queue_position") else None
        if message.HasField("job") and stands == jobs_ahead:
            return message


async def test_it_counts_down_as_jobs_are_taken(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    await client.create()
    last = await client.create()
    async with client.watching(last.id) as watch:
        assert _ahead(watch) == 2
        await worker.lease_one()
        await _reaches(watch, 1)
        await worker.lease_one()
        await _reaches(watch, 0)
        await worker.lease_one()
        assert (await _reaches(watch, None)).job.status == RUNNING


async def test_who_has_priority_goes_before(client: ProtocolClient, worker: ProtocolWorker) -> None:
    job = await client.create()
    async with client.watching(job.id) as watch:
        assert _ahead(watch) == 0
        await client.create(priority=5)
        await client.create(priority=-5)
        await _reaches(watch, 1)


async def test_only_jobs_that_its_workers_can_take_are_ahead(
    channel: grpc.aio.Channel, client: ProtocolClient
) -> None:
    both = ProtocolWorker(channel, "both", checkpoints=[CHECKPOINT, OTHER])
    elsewhere = ProtocolWorker(channel, "elsewhere", checkpoints=["third.safetensors"])
    for worker in (both, elsewhere):
        await worker.report_catalogue()
        await worker.lease(wait=0)
    for checkpoint in (OTHER, "third.safetensors", "nobody.safetensors"):
        await client.create(checkpoint_model=checkpoint)
    await client.create(scheduled_at=in_an_hour())
    job = await client.create()
    async with client.watching(job.id) as watch:
        assert _ahead(watch) == 1


async def test_a_job_that_waits_for_something_else_has_no_place_until_its_turn_counts(
    channel: grpc.aio.Channel, client: ProtocolClient, operator: ProtocolOperator
) -> None:
    scheduled = await client.create(scheduled_at=in_an_hour())
    async with client.watching(scheduled.id) as watch:
        assert watch.position is None
    job = await client.create()
    async with client.watching(job.id) as watch:
        assert watch.position is None
        worker = ProtocolWorker(channel)
        await worker.report_catalogue()
        await worker.lease(wait=0, free_slots=0)
        if watch.job.pending_reason != job_pb2.PENDING_REASON_QUEUED:
            reached = await _reaches(watch, 0)
            assert reached.job.pending_reason == job_pb2.PENDING_REASON_QUEUED


async def test_the_wait_is_estimated_from_what_ran_of_late(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    done, old, running = [await client.create() for _ in range(3)]
    for run in (timedelta(seconds=8), timedelta(seconds=12)):
        await sql.execute(
            "UPDATE generation_jobs SET status = 'completed', dispatchable = false,"
            " started_at = now() - interval '1 min', completed_at = now() - interval '1 min' + %s"
            " WHERE id = %s",
            [run, (done if run.seconds == 8 else old).id],
        )
    assert (await worker.lease_one()).job_id == running.id
    await client.create()
    await client.create()
    last = await client.create()
    async with client.watching(last.id) as watch:
        position = watch.position
        assert position is not None
        assert position.jobs_ahead == 2
        # One ComfyUI, 10 s a job: the running one and two more go first.
        assert position.estimated_wait.ToTimedelta() == timedelta(seconds=30)
    await sql.execute(
        "UPDATE generation_jobs SET started_at = started_at - interval '11 min',"
        " completed_at = completed_at - interval '11 min' WHERE status = 'completed'"
    )
    async with client.watching(last.id) as watch:
        assert watch.position is not None
        assert not watch.position.HasField("estimated_wait")


@pytest.mark.heavy
async def test_watches_share_a_look_and_an_unmoved_queue_is_not_told_again(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    jobs = [await client.create() for _ in range(30)]
    ready = asyncio.Semaphore(0)
    told: list[int] = []

    async def follow(job_id: int, done: asyncio.Event) -> None:
        async with client.watching(job_id) as watch:
            ready.release()
            while not done.is_set():
                message = await watch.next_message()
                if message.HasField("job"):
                    told.append(job_id)

    async def look(seconds: float) -> int:
        with statements_sent() as sent:
            await worker.beat(wait=seconds)  # held: nothing concerns the worker
        return sum(b"AS ahead" in text for text, _ in sent)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow(job.id, asyncio.Event())) for job in jobs]
        for _ in jobs:
            await ready.acquire()
        assert await look(7) <= 4
        assert not told
        await worker.lease_one()
        assert await look(3) <= 3
        assert sorted(set(told)) == [job.id for job in jobs]
        assert len(told) == len(jobs)
        for task in tasks:
            task.cancel()


async def test_a_look_at_a_long_queue_is_bounded_and_reads_the_claims_index(
    client: ProtocolClient,
    worker: ProtocolWorker,
    sql: Sql,
) -> None:
    job = await client.create()
    await sql.execute(FILL, [12_000, job.id])
    await sql.execute("ANALYZE generation_jobs")
    with statements_sent() as statements:
        async with client.watching(job.id) as watch:
            assert _ahead(watch) == 10_000
            assert watch.position is not None
            assert not watch.position.HasField("estimated_wait")
    look = next(one for one in statements if b"AS ahead" in one[0])
    nodes = await plan_of(sql, look, run=True)
    read = [node for node in nodes if node.get("Relation Name") == "generation_jobs"]
    assert "generation_jobs_claim" in {node.get("Index Name") for node in read}
    for node in read:
        assert node["Node Type"] != "Seq Scan", node
        assert node["Actual Rows"] * node["Actual Loops"] <= 10_000, node
