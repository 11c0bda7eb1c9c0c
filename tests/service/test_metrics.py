"""What /metrics says of one job_service after things have happened to jobs."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_error_pb2, job_pb2

from job_service import server
from job_service.monitoring.bounded_label import OTHERS
from job_service.monitoring.counted import MOST_CHECKPOINTS, Counted
from job_service.settings import Settings
from job_service.store.tally import AttemptEnd
from tests.end_to_end.real_processes import free_address
from tests.jobs_protocol import ProtocolClient, in_an_hour, refused
from tests.metrics_protocol import scrape
from tests.operator_protocol import ProtocolOperator
from tests.statements_sent import statements_sent
from tests.worker_protocol import CHECKPOINT, ProtocolWorker


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(
        update={"metrics_listen": free_address(), "metrics_interval": timedelta(milliseconds=1)}
    )


@pytest.fixture
def metrics(service: str, service_settings: Settings) -> str:
    """Where the running service's metrics are."""
    assert service
    assert service_settings.metrics_listen is not None
    return service_settings.metrics_listen


async def test_the_queue_by_state(
    client: ProtocolClient, worker: ProtocolWorker, metrics: str
) -> None:
    await client.create()
    await worker.lease_one()
    for _ in range(2):
        await client.create()
    await client.create(checkpoint_model="nobody-has-it.safetensors")
    await client.create(scheduled_at=in_an_hour())
    await asyncio.sleep(0.01)

    seen = await scrape(metrics)
    assert seen.labels("job_service_jobs", "state") == {
        "pending", "unservable", "scheduled", "running"
    }  # fmt: skip
    jobs = {state: seen("job_service_jobs", state=state) for state in ("pending", "unservable")}
    assert jobs == {"pending": 2, "unservable": 1}
    assert seen("job_service_jobs", state="scheduled") == 1
    assert seen("job_service_jobs", state="running") == 1
    for state in ("pending", "unservable", "scheduled"):
        waited = seen("job_service_oldest_wait_seconds", state=state)
        assert waited is not None
        assert 0 < waited < 120
    assert seen("job_service_workers") == 1
    assert seen("job_service_worker_slots") == worker.slots
    assert seen("job_service_jobs_created_total") == 5


async def test_how_jobs_and_attempts_end(
    client: ProtocolClient, worker: ProtocolWorker, operator: ProtocolOperator, metrics: str
) -> None:
    waiting = await client.create(checkpoint_model="nobody-has-it.safetensors")
    await client.cancel(waiting.id)
    for label in ("a", "b"):
        await client.create(checkpoint_model="nobody-has-it.safetensors", labels={"of": label})
    await client.stub.BatchCancelJobs(
        pb.BatchCancelJobsRequest(filter=job_pb2.JobFilter(labels={"of": "a"}))
    )
    for _ in range(4):
        await client.create()
    done, broken, bad, stopped = await worker.lease(4)
    await worker.progress(done, running_for=None)
    await worker.complete(done)
    await worker.fail(broken, job_error_pb2.ERROR_CODE_COMFYUI_RESTARTED)
    await worker.fail(bad, job_error_pb2.ERROR_CODE_INVALID_WORKFLOW)
    await client.cancel(stopped.job_id)
    await worker.release(stopped)

    seen = await scrape(metrics)
    ended = "job_service_jobs_ended_total"
    assert seen(ended, status="completed", error_code="") == 1
    assert seen(ended, status="failed", error_code="INVALID_WORKFLOW") == 1
    assert seen(ended, status="cancelled", error_code="") == 3
    attempts = "job_service_attempts_ended_total"
    assert seen(attempts, outcome="completed", error_code="") == 1
    assert seen(attempts, outcome="failed", error_code="COMFYUI_RESTARTED") == 1
    assert seen(attempts, outcome="failed", error_code="INVALID_WORKFLOW") == 1
    assert seen(attempts, outcome="cancelled", error_code="") == 1
    assert seen.total(attempts) == 4
    assert seen("job_service_lease_duration_seconds_count", checkpoint=CHECKPOINT) == 4


async def test_calls_by_method_kind_and_code(client: ProtocolClient, metrics: str) -> None:
    job = await client.create()
    await refused(client.get(job.id + 1))
    async with client.watching(job.id):
        during = await scrape(metrics)
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in client.stub.WatchJobs(pb.WatchJobsRequest(), timeout=0.2):
            pass

    name = "job_service_rpc_duration_seconds"
    service = {"service": "GenerationJobService"}
    assert during("job_service_calls_in_progress", kind="held") == 1
    assert during("job_service_calls_in_progress", kind="short") == 0
    assert during("job_service_calls_limit", kind="held") == Settings().max_held_calls
    async with asyncio.timeout(20):
        while True:
            seen = await scrape(metrics)
            if seen.total(f"{name}_count", method="WatchJobs") and seen.total(
                f"{name}_count", method="WatchJob"
            ):
                break
            await asyncio.sleep(0.05)
    short = service | {"kind": "short"}
    held = service | {"kind": "held"}
    assert seen(f"{name}_count", method="CreateJob", code="OK", **short) == 1
    assert seen(f"{name}_count", method="GetJob", code="NOT_FOUND", **short) == 1
    assert seen(f"{name}_count", method="WatchJob", code="CANCELLED", **held) == 1
    assert seen(f"{name}_count", method="WatchJobs", code="DEADLINE_EXCEEDED", **held) == 1
    took = seen(f"{name}_sum", method="CreateJob", code="OK", **short)
    assert took is not None
    assert 0 < took < 60
    assert seen("job_service_calls_in_progress", kind="held") == 0


async def test_connections_the_event_loop_and_the_process(metrics: str) -> None:
    seen = await scrape(metrics)
    limit = seen("job_service_database_connections_limit")
    use = [seen("job_service_database_connections", state=one) for one in ("in_use", "idle")]
    assert limit == Settings().database_pool_size
    assert all(one is not None and 0 <= one <= limit for one in use)
    assert seen("job_service_ready") == 1
    assert seen.total("job_service_info") == 1
    assert (seen("process_resident_memory_bytes") or 0) > 1024**2
    assert "job_service_event_loop_lag_seconds" in seen.families


async def test_a_hundred_scrapes_count_the_queue_once(service_settings: Settings) -> None:
    address = free_address()
    settings = service_settings.model_copy(
        update={"metrics_listen": address, "metrics_interval": timedelta(minutes=5)}
    )
    async with server.running(settings):
        with statements_sent() as sent:
            await asyncio.gather(*(scrape(address) for _ in range(100)))
    assert len([query for query, _ in sent if b"GROUP BY route_key, dispatchable" in query]) == 1


def test_checkpoints_beyond_the_first_share_a_series() -> None:
    counted = Counted()
    for n in range(3 * MOST_CHECKPOINTS):
        counted.attempt_ended(AttemptEnd("completed", "completed", "", f"model {n}", 2.0, 1.0))
    (family,) = (
        one for one in counted.registry.collect() if one.name == "job_service_run_duration_seconds"
    )
    counts = {
        sample.labels["checkpoint"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_count")
    }
    assert len(counts) == MOST_CHECKPOINTS + 1
    assert counts[OTHERS] == 2 * MOST_CHECKPOINTS
