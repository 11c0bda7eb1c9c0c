"""Over the real socket: no request of any RPC, however crooked, makes the service stumble."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_error_pb2, job_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job_service import server
from job_service.settings import Settings
from tests.every_method import BLAMELESS, METHODS, first_answer, start_call
from tests.jobs_protocol import ProtocolClient, refusal
from tests.wild_jobs import messages
from tests.worker_protocol import ProtocolWorker

#: Fields by which a call is held: tests do not wait.
HOLDING = ("wait",)
EXAMPLES = [10, pytest.param(100, marks=[pytest.mark.heavy, pytest.mark.timeout(900)])]


@st.composite
def calls(draw: st.DrawFn, method: MethodDescriptor) -> list[Message]:
    """The messages of one call; ids are often those of jobs that exist."""
    count = draw(st.integers(0, 3)) if method.client_streaming else 1
    sent = []
    for _ in range(count):
        message: Any = draw(messages(method.input_type))
        names = {field.name for field in method.input_type.fields}
        for name in names & {"id", "job_id", "artifact_id"}:
            setattr(message, name, draw(st.sampled_from([1, 2, 3, 4, 5, 0, -1, 2**63 - 1])))
        if "job" in names and draw(st.booleans()):
            message.job.id = draw(st.integers(1, 5))
        for name in names.intersection(HOLDING):
            message.ClearField(name)
        sent.append(message)
    return sent


@pytest.fixture
def running(service_settings: Settings) -> Iterator[tuple[asyncio.Runner, grpc.aio.Channel]]:
    """A service with jobs 1 to 5, each in another state."""
    with asyncio.Runner() as runner:
        service = server.running(service_settings)
        channel = grpc.aio.insecure_channel(runner.run(service.__aenter__()))
        try:
            runner.run(_five_jobs(channel))
            yield runner, channel
        finally:
            runner.run(channel.close())
            runner.run(service.__aexit__(None, None, None))


async def _five_jobs(channel: grpc.aio.Channel) -> None:
    client, worker = ProtocolClient(channel), ProtocolWorker(channel)
    await worker.report_catalogue()
    for _ in range(5):
        await client.create()
    done, failed, _running = await worker.lease(3)
    await worker.complete(done, await worker.upload(done, b"picture"))
    await worker.fail(failed, job_error_pb2.ERROR_CODE_MODEL_NOT_FOUND)
    await client.cancel(4)


async def answered(channel: grpc.aio.Channel, method: MethodDescriptor, sent: Any) -> None:
    """Make the call, of whatever kind; it must be answered, or refused for what it is."""
    call = start_call(channel, method, sent, timeout=20)
    try:
        await first_answer(call, method)
    except grpc.aio.AioRpcError as error:
        said = refusal(error)
        assert said.status in BLAMELESS, (method.full_name, sent, said)
        assert said.details_bytes <= 4096
        if said.status is grpc.StatusCode.INVALID_ARGUMENT:
            assert said.fields, (method.full_name, sent, said)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_message_to_any_method_is_answered_or_refused_in_words(
    running: tuple[asyncio.Runner, grpc.aio.Channel], examples: int, subtests: pytest.Subtests
) -> None:
    runner, channel = running
    for method in METHODS:
        with subtests.test(method.full_name):
            _call_often(runner, channel, method, examples)


def _call_often(
    runner: asyncio.Runner, channel: grpc.aio.Channel, method: MethodDescriptor, examples: int
) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(calls(method), min_size=1, max_size=4))
    def each(sent: list[Any]) -> None:
        async def send() -> None:
            await asyncio.gather(*(answered(channel, method, one) for one in sent))

        runner.run(send())

    each()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_page_token_that_was_tampered_with_is_a_place_or_no_token(
    running: tuple[asyncio.Runner, grpc.aio.Channel], examples: int
) -> None:
    """The place in a token is whatever its sender says: any moment, any id."""
    runner, channel = running
    client = ProtocolClient(channel)
    token = runner.run(client.list_jobs(page_size=1)).next_page_token
    packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))

    @settings(max_examples=examples * 5, deadline=None)
    @given(st.binary(min_size=16, max_size=16), st.integers(0, len(packed)), st.binary(max_size=3))
    def each(place: bytes, cut: int, more: bytes) -> None:
        for raw in (packed[:-16] + place, packed[:cut] + more + packed[cut + len(more) :]):
            crooked = base64.urlsafe_b64encode(raw).decode().rstrip("=")
            request = pb.ListJobsRequest(page_token=crooked)
            runner.run(answered(channel, LIST_JOBS, [request]))

    each()


LIST_JOBS = next(method for method in METHODS if method.name == "ListJobs")


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_filter_is_taken_by_every_call_that_has_one(
    running: tuple[asyncio.Runner, grpc.aio.Channel], examples: int
) -> None:
    runner, channel = running
    client = ProtocolClient(channel).stub

    async def ask(wanted: Any) -> None:
        """One that is refused by one call is refused by all, for the same fields."""
        said = await asyncio.gather(
            client.ListJobs(pb.ListJobsRequest(filter=wanted, include_total=True), timeout=20),
            client.GetJobStats(pb.GetJobStatsRequest(filter=wanted), timeout=20),
            return_exceptions=True,
        )
        refused = [one for one in said if isinstance(one, BaseException)]
        assert len(refused) in (0, len(said)), said
        for error in refused:
            assert isinstance(error, grpc.aio.AioRpcError)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert all(field.startswith("filter.") for field in refusal(error).fields)

    @settings(max_examples=examples * 5, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages(job_pb2.JobFilter.DESCRIPTOR))
    def each(wanted: Message) -> None:
        runner.run(ask(wanted))

    each()
