"""What validation lets through, the table takes: ten thousand requests, however crooked."""

import asyncio
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from hypothesis import HealthCheck, Phase, given, settings

from job_service import server
from job_service.jobs.limits import MAX_MESSAGE_BYTES, Limits
from job_service.jobs.principal import LOCAL
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.validation import new_job
from job_service.settings import Settings
from tests.wild_jobs import create_requests


def refusal_of(request: pb.CreateJobRequest) -> RefusedError | None:
    try:
        new_job(request, LOCAL, Limits())
    except RefusedError as error:
        return error
    return None


def accepted_of(examples: int) -> list[pb.CreateJobRequest]:
    """The requests that validation lets through; the others it may refuse by INVALID_FIELDS."""
    accepted: list[pb.CreateJobRequest] = []
    generated = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(create_requests())
    def each(request: pb.CreateJobRequest) -> None:
        nonlocal generated
        generated += 1
        refused = refusal_of(request)
        if refused is None:
            accepted.append(request)
        else:
            assert refused.refusal is Refusal.INVALID_FIELDS
            assert refused.violations

    each()
    assert generated >= examples * 0.9
    return accepted


def batches(requests: list[pb.CreateJobRequest]) -> list[pb.BatchCreateJobsRequest]:
    """All of them, as many at a time as one call takes."""
    found = [pb.BatchCreateJobsRequest()]
    used: set[tuple[str, str]] = set()
    for request in requests:
        key = (request.job.user_id, request.request_id)
        if key in used:
            request.request_id = ""
        used.add(key)
        batch = found[-1]
        if (
            len(batch.requests) == 200
            or batch.ByteSize() + request.ByteSize() > MAX_MESSAGE_BYTES - 1_000
        ):
            batch = pb.BatchCreateJobsRequest()
            found.append(batch)
        batch.requests.append(request)
    return found


@pytest.mark.parametrize(
    "examples", [500, pytest.param(10_000, marks=[pytest.mark.heavy, pytest.mark.timeout(900)])]
)
def test_whatever_validation_accepts_is_stored(service_settings: Settings, examples: int) -> None:
    accepted = accepted_of(examples)
    assert len(accepted) > examples / 20, "validation accepts some"

    unhurried = service_settings.model_copy(update={"create_rate_per_user": 0.0})

    async def store_all() -> int:
        stored = 0
        async with (
            server.running(unhurried) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            create: Any = channel.unary_unary(
                "/generation_jobs.v1.GenerationJobService/BatchCreateJobs",
                request_serializer=pb.BatchCreateJobsRequest.SerializeToString,
                response_deserializer=pb.BatchCreateJobsResponse.FromString,
            )
            for batch in batches(accepted):
                answer = await create(batch, timeout=60)
                stored += len({job.id for job in answer.jobs})
        return stored

    assert asyncio.run(store_all()) == len(accepted)
