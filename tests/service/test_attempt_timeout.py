"""An attempt may run only so long, counted from the moment ComfyUI starts to execute it."""

from datetime import timedelta

import pytest
from generation_jobs.v1 import attempt_pb2, job_error_pb2, job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb
from google.protobuf import timestamp_pb2

from job_service.settings import Settings
from tests.jobs_protocol import FAILED, PENDING, RUNNING, ProtocolClient
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, seconds, verdicts


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    # looked after four times in a lifetime
    return service_settings.model_copy(update={"lease_ttl": timedelta(seconds=6)})


async def test_an_attempt_that_runs_too_long_is_ended_and_tried_again(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create(attempt_timeout=seconds(10))
    lease = await worker.lease_one()
    await worker.progress(lease, running_for=seconds(0))
    await sql.execute("UPDATE generation_jobs SET started_at = now() - interval '11 seconds'")
    ended = await client.seen(job.id, PENDING)

    assert ended.pending_reason == job_pb2.PENDING_REASON_RETRY_DELAY
    assert ended.error.code == job_error_pb2.ERROR_CODE_TIMED_OUT
    assert ended.attempts[0].outcome == attempt_pb2.ATTEMPT_OUTCOME_TIMED_OUT
    assert ended.attempts[0].charged
    assert verdicts(await worker.beat(lease)) == {lease.lease_token: pb.VERDICT_LOST}


async def test_a_job_that_waits_in_comfyuis_queue_is_not_timed(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create(attempt_timeout=seconds(10))
    lease = await worker.lease_one()
    await worker.progress(lease, 0, phase=job_pb2.PROGRESS_PHASE_QUEUED, prompt_id=lease.prompt_id)
    await sql.execute(
        "UPDATE generation_jobs SET leased_at = leased_at - interval '1 hour',"
        " created_at = created_at - interval '1 hour'"
    )
    # the upkeep loop goes round
    due = await client.create(expires_at=timestamp_pb2.Timestamp(seconds=1))
    await client.seen(due.id, FAILED)

    waiting = await client.get(job.id)
    assert waiting.status == RUNNING
    assert not waiting.HasField("started_at")
