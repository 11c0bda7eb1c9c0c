"""ReadInput and Lease.inputs: workers get the pictures of their jobs, and only those."""

import grpc
import pytest
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.inputs_protocol import CHUNK, InputClient, bind, noise, picture, read_input
from tests.jobs_protocol import ProtocolClient, refused
from tests.service_fixture import Sql
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker, ref


@pytest.fixture
def inputs(channel: grpc.aio.Channel) -> InputClient:
    return InputClient(channel)


async def test_an_input_comes_back_byte_for_byte_in_small_chunks(
    client: ProtocolClient, worker: ProtocolWorker, inputs: InputClient, sql: Sql
) -> None:
    content = noise((1200, 900))
    stored = await inputs.upload(content)
    await bind(sql, (await client.create()).id, image=stored.id)
    lease = await worker.lease_one()

    asset, chunks = await read_input(worker, lease, stored.id)
    assert asset == stored
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= CHUNK
    assert len(chunks) <= len(content) // CHUNK + 2


async def test_a_lease_describes_the_inputs_of_its_job_in_their_order(
    client: ProtocolClient, worker: ProtocolWorker, inputs: InputClient, sql: Sql
) -> None:
    image, mask = await inputs.upload(picture()), await inputs.upload(picture(colour="white"))
    job = await client.create()
    await bind(sql, job.id, mask=mask.id, image=image.id, again=image.id)
    lease = await worker.lease_one()

    assert [(one.name, one.input) for one in lease.inputs] == [
        ("mask", mask), ("image", image), ("again", image),
    ]  # fmt: skip
    bound = [(one.name, one.input_id) for one in (await client.get(job.id)).inputs]
    assert bound == [("mask", mask.id), ("image", image.id), ("again", image.id)]


async def test_the_inputs_of_all_leases_of_an_answer_take_one_statement_or_none(
    client: ProtocolClient,
    worker: ProtocolWorker,
    inputs: InputClient,
    sql: Sql,
) -> None:
    jobs = [await client.create() for _ in range(6)]
    for n, job in enumerate(jobs[:3]):
        stored = await inputs.upload(picture(size=(10 + n, 10)))
        await bind(sql, job.id, image=stored.id)
    with statements_sent() as sent:
        leases = await worker.lease(3)
    assert [len(lease.inputs) for lease in leases] == [1, 1, 1]
    assert sum(b"job_inputs" in statement for statement, _ in sent) == 1

    with statements_sent() as sent:
        leases = await worker.lease(3)
    assert [len(lease.inputs) for lease in leases] == [0, 0, 0]
    assert not any(b"job_inputs" in statement for statement, _ in sent)


async def test_only_inputs_of_the_leased_job_can_be_read(
    client: ProtocolClient, worker: ProtocolWorker, inputs: InputClient, sql: Sql
) -> None:
    mine, other = await inputs.upload(picture()), await inputs.upload(picture(colour="red"))
    await bind(sql, (await client.create()).id, image=mine.id)
    lease = await worker.lease_one()

    for input_id in (other.id, 4711, 2**63 - 1):
        error = await refused(read_input(worker, lease, input_id))
        assert error.status is grpc.StatusCode.NOT_FOUND
        assert error.reason == "INPUT_NOT_FOUND"


async def test_a_lease_that_has_ended_reads_nothing(
    client: ProtocolClient, worker: ProtocolWorker, inputs: InputClient, sql: Sql
) -> None:
    stored = await inputs.upload(picture())
    await bind(sql, (await client.create()).id, image=stored.id)
    lease = await worker.lease_one()
    await worker.release(lease)

    error = await refused(read_input(worker, lease, stored.id))
    assert error.status is grpc.StatusCode.ABORTED
    assert error.reason == "LEASE_LOST"
    again = await worker.lease_one()
    assert (await read_input(worker, again, stored.id))[0] == stored
    assert (await refused(read_input(worker, lease, stored.id))).reason == "LEASE_LOST"


async def test_a_bad_request_names_its_wrong_fields(worker: ProtocolWorker) -> None:
    async def read(request: pb.ReadInputRequest) -> None:
        async for _ in worker.stub.ReadInput(request, timeout=20):
            pass

    error = await refused(read(pb.ReadInputRequest(lease=ref(pb.Lease(job_id=-1)))))
    assert set(error.fields) == {"lease.job_id", "lease.lease_token", "input_id"}
