"""A watch ends with the job, not with the connection."""

import asyncio

import grpc
import pytest
from generation_jobs.v1.generation_job_service_pb2 import (
    KeepAlive,
    Preview,
    WatchJobRequest,
    WatchJobResponse,
)
from generation_jobs.v1.generation_job_service_pb2_grpc import GenerationJobServiceStub

from job_service.client import JobServiceClient, JobServiceError
from job_service.client.response_stream import ResponseStream
from tests.unit.client.messages import completed, failure, pending, running, unavailable
from tests.unit.client.scripted_service import Hold, ScriptedService


async def test_it_yields_every_state_up_to_the_final_one(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    alive = WatchJobResponse(keep_alive=KeepAlive())
    scripted.script("WatchJob", pending(), alive, running(3), completed(), Hold)

    seen = [update async for update in client.watch(7)]

    assert seen == [pending(), running(3), completed()]
    await asyncio.wait_for(scripted.call_ended.wait(), 10)


async def test_it_reconnects_when_the_stream_breaks(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("WatchJob", pending(), unavailable())
    scripted.script("WatchJob", unavailable())
    scripted.script("WatchJob", running(5), unavailable())
    scripted.script("WatchJob", completed())
    heard: list[JobServiceError] = []

    seen = [update async for update in client.watch(7, on_interruption=heard.append)]

    assert seen == [pending(), running(5), completed()]
    assert [error.reason for error in heard] == ["SHUTTING_DOWN"] * 3


async def test_a_stream_that_ends_before_the_job_is_opened_again(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("WatchJob", pending())
    scripted.script("WatchJob", completed())
    assert [update async for update in client.watch(7)] == [pending(), completed()]


async def test_it_gives_up_when_nothing_comes_back(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("WatchJob", pending(), unavailable())
    updates = client.watch(7, reconnect_for=0.0)
    assert await anext(updates) == pending()
    with pytest.raises(JobServiceError) as caught:
        await anext(updates)
    assert caught.value.status is grpc.StatusCode.UNAVAILABLE


async def test_other_errors_end_it(scripted: ScriptedService, client: JobServiceClient) -> None:
    gone = failure(grpc.StatusCode.NOT_FOUND, "there is no job 7", reason="JOB_NOT_FOUND")
    scripted.script("WatchJob", running(1), gone)
    updates = client.watch(7)
    assert await anext(updates) == running(1)
    with pytest.raises(JobServiceError) as caught:
        await anext(updates)
    assert caught.value.reason == "JOB_NOT_FOUND"


async def test_leaving_it_ends_the_call(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    scripted.script("WatchJob", running(1), Hold)
    updates = client.watch(7)
    assert await anext(updates) == running(1)
    await updates.aclose()
    await asyncio.wait_for(scripted.call_ended.wait(), 10)


async def test_silence_is_a_broken_connection(scripted: ScriptedService) -> None:
    scripted.script("WatchJob", pending(), Hold)
    async with grpc.aio.insecure_channel(scripted.address) as channel:
        call = GenerationJobServiceStub(channel).WatchJob(WatchJobRequest(id=7))
        stream: ResponseStream[WatchJobRequest, WatchJobResponse] = ResponseStream(call, 0.5)
        assert await stream.next() == pending()
        with pytest.raises(JobServiceError, match=r"nothing was heard for 0\.5 seconds") as caught:
            await stream.next()
    assert caught.value.status is grpc.StatusCode.UNAVAILABLE


async def test_previews_come_on_request(
    scripted: ScriptedService, client: JobServiceClient
) -> None:
    frame = WatchJobResponse(preview=Preview(job_id=7, data=b"frame"))
    scripted.script("WatchJob", frame, completed())
    seen = [update async for update in client.watch(7, include_previews=True)]
    assert seen == [frame, completed()]
    assert scripted.requests["WatchJob"] == [WatchJobRequest(id=7, include_previews=True)]
