"""What one user does is nothing that another user, or a gateway for another, gets to know."""

import json
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2, model_service_pb2, model_service_pb2_grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from job_service.jobs.principal import Role
from job_service.settings import Settings
from tests.inputs_protocol import InputClient, picture
from tests.jobs_protocol import CANCELLED, PENDING, ProtocolClient, a_job, in_an_hour, refused
from tests.service.access.callers import ALICE, BOB
from tests.service.access.conftest import Connect, MakeToken
from tests.service.test_templates import Templates, a_template
from tests.worker_protocol import ProtocolWorker

SECRET = "alices-secret"

GRAPH = {
    "load": {"class_type": "LoadImage", "inputs": {"image": "input://image"}},
    "save": {"class_type": "SaveImage", "inputs": {"images": ["load", 0]}},
}


@pytest.fixture(params=["a client", "a gateway for him"])
async def bobs_channel(
    request: pytest.FixtureRequest, make_token: MakeToken, connect: Connect
) -> grpc.aio.Channel:
    """Bob's, in both ways to be somebody's client."""
    if request.param == "a client":
        return connect(await make_token(Role.CLIENT, BOB))
    return connect(await make_token(Role.GATEWAY), BOB)


@pytest.fixture
def bob(bobs_channel: grpc.aio.Channel) -> ProtocolClient:
    return ProtocolClient(bobs_channel)


async def test_a_request_id_is_ones_own(alice: ProtocolClient, bob: ProtocolClient) -> None:
    hers = await alice.create(request_id="order-1", prompt=SECRET)
    his = await bob.create(request_id="order-1", prompt=SECRET)
    assert his.id != hers.id
    assert (his.user_id, hers.user_id) == (str(BOB), str(ALICE))
    assert (await bob.create(request_id="order-1", prompt=SECRET)).id == his.id


async def test_lists_and_their_totals(alice: ProtocolClient, bob: ProtocolClient) -> None:
    hers = [await alice.create(prompt=SECRET, labels={"of": "alice"}) for _ in range(3)]
    his = await bob.create()
    every = await bob.list_jobs(include_total=True)
    assert ([job.id for job in every.jobs], every.total) == ([his.id], 1)
    for matching in (
        job_pb2.JobFilter(ids=[job.id for job in hers]),
        job_pb2.JobFilter(search=SECRET),
        job_pb2.JobFilter(labels={"of": "alice"}),
    ):
        none = await bob.list_jobs(filter=matching, include_total=True)
        assert (len(none.jobs), none.total) == (0, 0)

    page = await alice.list_jobs(page_size=1)
    request = pb.ListJobsRequest(page_size=1, page_token=page.next_page_token)
    assert (await refused(bob.stub.ListJobs(request))).fields == ("page_token",)
    named = pb.ListJobsRequest(filter=job_pb2.JobFilter(user_id=str(ALICE)))
    assert (await refused(bob.stub.ListJobs(named))).fields == ("filter.user_id",)


async def test_watches(alice: ProtocolClient, bob: ProtocolClient) -> None:
    before = await alice.create(prompt=SECRET)
    async with bob.watching_jobs() as watch, bob.watching_jobs(changes_only=True) as changes:
        token = watch.token
        await alice.cancel(before.id)
        await alice.delete(before.id)
        during = await alice.create(prompt=SECRET)
        await alice.cancel(during.id)
        his = await bob.create()
        for one in (watch, changes):
            await one.until(lambda seen: his.id in seen.jobs)
            assert set(one.jobs) == {his.id}
            assert not one.removed
    async with bob.watching_jobs(resume_token=token) as resumed:
        assert set(resumed.jobs) == {his.id}
        assert not resumed.removed
    async with alice.watching_jobs() as hers:
        stolen = bob.stub.WatchJobs(pb.WatchJobsRequest(resume_token=hers.token))
        assert (await refused(anext(aiter(stolen)))).fields == ("resume_token",)


async def test_statistics(alice: ProtocolClient, bob: ProtocolClient) -> None:
    await alice.cancel((await alice.create(checkpoint_model="hers.safetensors")).id)
    await bob.cancel((await bob.create()).id)
    request = pb.GetJobStatsRequest(
        group_by=[pb.STATS_DIMENSION_USER, pb.STATS_DIMENSION_CHECKPOINT], include_storage=True
    )
    (row,) = (await bob.stub.GetJobStats(request)).rows
    assert "hers" not in str(row)
    assert str(BOB) in str(row)
    request.filter.user_id = str(ALICE)
    assert (await refused(bob.stub.GetJobStats(request))).fields == ("filter.user_id",)


async def test_cancelling_by_filter(alice: ProtocolClient, bob: ProtocolClient) -> None:
    hers = await alice.create(scheduled_at=in_an_hour())
    his = await bob.create(scheduled_at=in_an_hour())
    for matching in (
        job_pb2.JobFilter(ids=[hers.id]),
        job_pb2.JobFilter(statuses=[PENDING]),
    ):
        request = pb.BatchCancelJobsRequest(filter=matching)
        answer = await bob.stub.BatchCancelJobs(request)
        assert answer.cancelled_count == (0 if matching.ids else 1)
    assert (await alice.get(hers.id)).status == PENDING
    assert (await bob.get(his.id)).status == CANCELLED


async def test_the_queue_and_the_models_name_nobody(
    alice: ProtocolClient, bobs_channel: grpc.aio.Channel, worker: ProtocolWorker
) -> None:
    """Numbers of the whole queue are everybody's to see: how long it is, and how fast."""
    await alice.create(prompt=SECRET, checkpoint_model="hers.safetensors", labels={"a": SECRET})
    queue = pb.GetQueueStatsResponse.DESCRIPTOR
    assert not list(_texts(queue))
    models = model_service_pb2_grpc.ModelServiceStub(bobs_channel)
    listed = await models.ListModels(model_service_pb2.ListModelsRequest())
    assert "hers" not in str(listed)


def _texts(message: Descriptor) -> list[str]:
    """The fields that can hold a text or bytes."""
    found = []
    for field in message.fields:
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            found.append(field.full_name)
        elif field.message_type is not None:
            found += _texts(field.message_type)
    return found


async def test_what_a_job_refers_to_is_ones_own(
    make_token: MakeToken, connect: Connect, alice: ProtocolClient, bob: ProtocolClient
) -> None:
    hers = await InputClient(connect(await make_token(Role.CLIENT, ALICE))).upload(picture())
    await Templates(alice).create(a_template("hers"))

    async def wrong(**fields: Any) -> tuple[str, ...]:
        request = pb.CreateJobRequest(job=a_job(**fields))
        return (await refused(bob.stub.CreateJob(request))).fields

    def starting_from(input_id: int) -> dict[str, Any]:
        bound = [job_pb2.InputBinding(name="image", input_id=input_id)]
        return {"inputs": bound, "workflow_json": json.dumps(GRAPH), "checkpoint_model": ""}

    assert await wrong(**starting_from(hers.id)) == ("job.inputs[0].input_id",)
    assert await wrong(template=job_pb2.TemplateRef(name="hers")) == ("job.template.name",)
    # Who names another user is not told what that user has.
    there = await wrong(user_id=str(ALICE), **starting_from(hers.id))
    assert there == await wrong(user_id=str(ALICE), **starting_from(hers.id + 1))
    assert there == ("job.user_id", "job.inputs[0].input_id")


class TestWithoutTokens:
    """On one machine, as it is without any settings."""

    @pytest.fixture
    def service_settings(self, service_settings: Settings) -> Settings:
        return service_settings.model_copy(update={"require_tokens": None})

    async def test_a_gateway_that_names_its_users_works_as_with_tokens(
        self, client: ProtocolClient, connect: Connect
    ) -> None:
        for_alice, for_bob = (ProtocolClient(connect("any", user)) for user in (ALICE, BOB))
        hers = await for_alice.create(priority=1)
        assert (hers.user_id, hers.priority) == (str(ALICE), 1)
        assert (await refused(for_bob.get(hers.id))).reason == "JOB_NOT_FOUND"
        assert (await client.get(hers.id)).id == hers.id  # the local admin sees everything
