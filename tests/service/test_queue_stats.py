"""GetQueueStats: the queue at a glance."""

from datetime import timedelta

from generation_jobs.v1 import generation_job_service_pb2 as pb
from google.protobuf import timestamp_pb2

from tests.jobs_protocol import ProtocolClient
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker


async def stats(client: ProtocolClient) -> pb.GetQueueStatsResponse:
    return await client.stub.GetQueueStats(pb.GetQueueStatsRequest(), timeout=20)


async def test_an_empty_queue_of_an_installation_without_workers_divides_by_nothing(
    client: ProtocolClient,
) -> None:
    assert await stats(client) == pb.GetQueueStatsResponse()


async def test_every_pending_job_is_counted_once_under_what_it_waits_for(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    later = timestamp_pb2.Timestamp()
    later.GetCurrentTime()
    later.seconds += 3600
    waiting = [await client.create() for _ in range(4)]
    await client.create(scheduled_at=later)
    await client.create(checkpoint_model="nobody-has-this.safetensors")
    lease = await worker.lease_one()
    await sql.execute(
        "UPDATE generation_jobs SET created_at = now() - interval '1 hour' WHERE id = %s",
        (waiting[-1].id,),
    )

    now = await stats(client)

    assert (now.pending, now.scheduled, now.unservable, now.running) == (3, 1, 1, 1)
    assert (now.live_workers, now.slots) == (1, 8)
    assert now.oldest_wait.ToTimedelta() >= timedelta(hours=1)
    assert not now.HasField("estimated_drain")
    await worker.complete(lease)
    # One job in ten minutes, three to go.
    assert (await stats(client)).estimated_drain.ToTimedelta() == timedelta(minutes=30)
