"""Over the real socket: whatever a CreateJob request holds, it is stored or refused in words."""

import asyncio

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import FAILED, ProtocolClient, refusal
from tests.wild_jobs import create_requests


def test_any_job_is_stored_or_refused(service_settings: Settings) -> None:
    with asyncio.Runner() as runner:
        running = server.running(service_settings)
        address = runner.run(running.__aenter__())
        channel = grpc.aio.insecure_channel(address)
        client = ProtocolClient(channel)

        async def send(requests: list[pb.CreateJobRequest]) -> None:
            answers = await asyncio.gather(
                *(client.send(request) for request in requests), return_exceptions=True
            )
            for answer in answers:
                if isinstance(answer, grpc.aio.AioRpcError):
                    said = refusal(answer)
                    assert said.status in (
                        grpc.StatusCode.INVALID_ARGUMENT,
                        grpc.StatusCode.ALREADY_EXISTS,
                    ), said
                    assert said.details_bytes <= 4096
                    assert said.reason in ("INVALID_FIELDS", "REQUEST_ID_REUSED")
                else:
                    assert not isinstance(answer, BaseException), answer
                    # what was answered is what is stored, unless its time was over by then
                    stored = await client.get(answer.id)
                    if answer.HasField("expires_at") and stored.revision != answer.revision:
                        assert stored.status == FAILED
                    else:
                        assert stored == answer

        @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(create_requests(), min_size=1, max_size=6))
        def each(requests: list[pb.CreateJobRequest]) -> None:
            runner.run(send(requests))

        try:
            each()
        finally:
            runner.run(channel.close())
            runner.run(running.__aexit__(None, None, None))
