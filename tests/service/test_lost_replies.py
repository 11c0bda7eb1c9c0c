"""A worker call whose answer is lost and that is made again leaves what one call leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import job_error_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import ProtocolClient
from tests.reply_cutter import ReplyCutter
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, artifact_file, artifact_header, ref

PICTURE = b"a picture" * 100

#: Everything a worker's calls may change, without times and tokens.
STATE = """
SELECT jsonb_build_object(
    'job', (SELECT jsonb_agg(to_jsonb(one) ORDER BY id) FROM (
        SELECT id, status, dispatchable, attempt, attempts_charged, attempts_forgiven, backend,
            revision, error, progress, comfyui_prompt_id, lease_request_id,
            lease_token IS NOT NULL AS leased, started_at IS NOT NULL AS started
        FROM generation_jobs) AS one),
    'attempts', (SELECT jsonb_agg(to_jsonb(one) ORDER BY job_id, attempt) FROM (
        SELECT job_id, attempt, worker, backend, outcome, charged, status_after, reported_by, error
        FROM job_attempts) AS one),
    'artifacts', (SELECT jsonb_agg(to_jsonb(one) ORDER BY job_id, position) FROM (
        SELECT job_id, attempt, role, position, size, encode(sha256, 'hex') AS sha256,
            stored_at IS NOT NULL AS stored
        FROM job_artifacts) AS one),
    'catalogues', (SELECT jsonb_agg(to_jsonb(one) ORDER BY one.backend) FROM (
        SELECT worker, backend, digest, content FROM backend_catalogues) AS one)
)
"""

Call = Callable[[ProtocolWorker, pb.Lease | None], Coroutine[Any, Any, Any]]


async def lease(worker: ProtocolWorker, _: pb.Lease | None) -> Any:
    answer = await worker.ask(2, request_id="the same")
    return sorted((one.job_id, one.lease_token, one.attempt) for one in answer.leases)


async def beat(worker: ProtocolWorker, held: pb.Lease | None) -> Any:
    assert held is not None
    return await worker.beat(held)


async def report(worker: ProtocolWorker, held: pb.Lease | None) -> Any:
    assert held is not None
    return await worker.progress(held, 0.5, step=3, steps=6, prompt_id="prompt-1")


async def upload(worker: ProtocolWorker, held: pb.Lease | None) -> Any:
    assert held is not None
    return (await worker.upload(held, PICTURE)).id


async def upload_together(worker: ProtocolWorker, held: pb.Lease | None) -> Any:
    assert held is not None
    files = [artifact_file(held, PICTURE), artifact_file(held, PICTURE[1:], position=1)]
    return [artifact.id for artifact in await worker.upload_together(*files)]


async def complete_with_files(worker: ProtocolWorker, held: pb.Lease | None) -> Any:
    assert held is not None
    files = [artifact_file(held, PICTURE), artifact_file(held, PICTURE[1:], position=1)]
    answer = await worker.complete_with(held, files, prompt_id="prompt-1")
    return [artifact.id for artifact in answer.artifacts], answer.completed


async def complete(worker: ProtocolWorker, held: pb.Lease | None) -> Any:
    assert held is not None
    return await worker.complete(held, prompt_id="prompt-1")


async def fail(worker: ProtocolWorker, held: pb.Lease | None) -> Any:
    assert held is not None
    return await worker.fail(held, job_error_pb2.ERROR_CODE_INTERNAL, retry_after=0)


async def release(worker: ProtocolWorker, held: pb.Lease | None) -> Any:
    assert held is not None
    return await worker.release(held)


async def report_catalogue(worker: ProtocolWorker, _: pb.Lease | None) -> Any:
    worker.offers(["another.safetensors"])
    return await worker.report_catalogue()


#: What an ending call leaves: the attempt's outcome, and the job's state.
ENDS: dict[Call, tuple[str, str]] = {
    complete: ("completed", "completed"),
    complete_with_files: ("completed", "completed"),
    fail: ("failed", "pending"),
    release: ("released", "pending"),
}

#: How many files a call stores.
UPLOADED: dict[Call, int] = {upload: 1, upload_together: 2, complete_with_files: 2}


@pytest.fixture
async def cutter(service: str) -> AsyncIterator[ReplyCutter]:
    async with ReplyCutter(service).listening() as running:
        yield running


@pytest.fixture
async def frail(cutter: ReplyCutter) -> AsyncIterator[grpc.aio.Channel]:
    """A channel through the cutter."""
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
    async with grpc.aio.insecure_channel(cutter.address, options=options) as connection:
        yield connection


async def repeated(call: Callable[[], Awaitable[Any]]) -> Any:
    """Call as workers do: again, until there is an answer."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


@pytest.mark.parametrize(
    "call",
    [
        lease,
        beat,
        report,
        upload,
        upload_together,
        complete_with_files,
        complete,
        fail,
        release,
        report_catalogue,
    ],
)
@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_repeating_a_call_whose_answer_was_lost_leaves_what_one_call_leaves(
    call: Call,
    lost: int,
    client: ProtocolClient,
    frail: grpc.aio.Channel,
    cutter: ReplyCutter,
    sql: Sql,
) -> None:
    worker = ProtocolWorker(frail)
    await worker.report_catalogue()
    for _ in range(3):
        await client.create()
    held = None if call is lease else await worker.lease_one()
    answers = []

    async def once() -> Any:
        if cutter.cuts < lost:
            cutter.cut_next()
        return await call(worker, held)

    async with asyncio.timeout(30):
        answers = [await repeated(once), await call(worker, held)]

    assert cutter.cuts == lost
    # What the first answer says, the next one says as well: for most calls, word for word.
    assert answers[0] == answers[1]
    assert await state(sql) == expected(call, await state(sql))


def expected(call: Call, found: dict[str, Any]) -> dict[str, Any]:
    """The state after one call, as far as it is not what was found."""
    job, attempts = found["job"][0], found["attempts"]
    charged = 1 if call is fail else 0
    outcome, status = ENDS.get(call, (None, "running"))
    job |= {"status": status, "attempt": 1, "attempts_charged": charged}
    leases = 2 if call is lease else 1
    assert len(attempts) == leases
    attempts[0] |= {"attempt": 1, "outcome": outcome, "charged": bool(charged)}
    artifacts = found["artifacts"] or []
    assert len(artifacts) == UPLOADED.get(call, 0)
    assert all(artifact["stored"] for artifact in artifacts)
    assert len(found["catalogues"]) == 1
    return found


async def state(sql: Sql) -> dict[str, Any]:
    row = await (await sql.execute(STATE)).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0]
    return found


async def test_an_upload_cut_off_in_the_middle_leaves_nothing_to_be_read(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create()
    held = await worker.lease_one()

    async def half() -> AsyncIterator[pb.UploadArtifactRequest]:
        yield pb.UploadArtifactRequest(header=artifact_header(held, PICTURE))
        yield pb.UploadArtifactRequest(chunk=PICTURE[:100])
        raise ConnectionError("the worker's line is cut")

    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError, ConnectionError)):
        await worker.stub.UploadArtifact(half(), timeout=20)
    artifact = await worker.upload(held, PICTURE)
    await worker.complete(held, artifact)
    stored = await client.get(job.id)
    assert [one.id for one in stored.artifacts] == [artifact.id]
    assert ref(held).job_id == job.id
