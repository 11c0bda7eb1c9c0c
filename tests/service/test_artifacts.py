"""UploadArtifact and ReadArtifact: the bytes that were announced, whole or not at all."""

import asyncio
import hashlib

import grpc
import pytest
from generation_jobs.v1 import artifact_pb2
from generation_jobs.v1 import generation_job_service_pb2 as jobs_pb
from generation_jobs.v1 import worker_service_pb2 as pb

from tests.jobs_protocol import COMPLETED, RUNNING, ProtocolClient, refused
from tests.service.test_delete_job import deletions
from tests.service_fixture import Sql, StoredFiles
from tests.worker_protocol import ProtocolWorker, artifact_header, thumbnail

CHUNK = 256 * 1024
#: Not a whole number of chunks, and more than one part of the store's.
LARGE = bytes(range(256)) * 4 * 1024 * 6 + b"the end"


def _header(lease: pb.Lease, content: bytes, **fields: object) -> pb.UploadArtifactRequest:
    return pb.UploadArtifactRequest(header=artifact_header(lease, content, **fields))


def _chunk(content: bytes) -> pb.UploadArtifactRequest:
    return pb.UploadArtifactRequest(chunk=content)


async def _lease(client: ProtocolClient, worker: ProtocolWorker) -> pb.Lease:
    await client.create()
    return await worker.lease_one()


async def test_a_picture_comes_back_byte_for_byte_in_small_chunks(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    lease = await _lease(client, worker)
    stored = await worker.upload(lease, LARGE, filename="ComfyUI_00001_.png")
    await worker.complete(lease, stored)

    artifact, chunks = await client.read(stored.id)
    assert b"".join(chunks) == LARGE
    assert max(map(len, chunks)) <= CHUNK
    assert len(chunks) <= len(LARGE) // CHUNK + 2
    assert artifact == stored
    assert (artifact.job_id, artifact.attempt, artifact.position) == (lease.job_id, 1, 0)
    assert artifact.sha256 == hashlib.sha256(LARGE).digest()
    assert (artifact.size, artifact.width, artifact.height) == (len(LARGE), 832, 1216)
    assert (artifact.filename, artifact.content_type) == ("ComfyUI_00001_.png", "image/png")
    assert artifact.HasField("created_at")


async def test_pictures_are_in_order_each_followed_by_its_thumbnails(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    lease = await _lease(client, worker)
    artifacts = []
    for position in (1, 0):
        for size in (300, 150):
            content = f"small {position} {size}".encode()
            artifacts.append(await worker.upload(lease, content, **thumbnail(size, position)))
        artifacts.append(await worker.upload(lease, f"{position}".encode(), position=position))
    await worker.complete(lease, *artifacts)

    job = await client.get(lease.job_id)
    assert [(one.position, one.thumbnail_size) for one in job.artifacts] == [
        (0, 0), (0, 150), (0, 300), (1, 0), (1, 150), (1, 300),
    ]  # fmt: skip
    picture = job.artifacts[3]
    for size, content in ((0, b"1"), (150, b"small 1 150"), (300, b"small 1 300")):
        artifact, chunks = await client.read(picture.id, size)
        assert b"".join(chunks) == content
        assert artifact.thumbnail_size == size
    assert (await refused(client.read(picture.id, 600))).reason == "ARTIFACT_NOT_FOUND"


async def test_uploads_that_come_together_share_no_fate(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    lost = await _lease(client, worker)
    await worker.release(lost)
    lease = await worker.lease_one()
    other = await _lease(client, worker)
    uploads = [
        worker.upload(held, f"{held.job_id} {position}".encode(), position=position)
        for position in range(8)
        for held in (lease, other)
    ]
    again = worker.upload(lease, f"{lease.job_id} 0".encode())
    late = [refused(worker.upload(lost, b"late", position=position)) for position in range(4)]
    stored, refusals = await asyncio.gather(asyncio.gather(*uploads, again), asyncio.gather(*late))
    assert {one.reason for one in refusals} == {"LEASE_LOST"}

    assert stored[-1].id == stored[0].id
    await worker.complete(lease, *stored[0:16:2])
    await worker.complete(other, *stored[1:16:2])
    for job_id in (lease.job_id, other.job_id):
        job = await client.get(job_id)
        assert [artifact.position for artifact in job.artifacts] == list(range(8))
        for artifact in job.artifacts:
            _, chunks = await client.read(artifact.id)
            assert b"".join(chunks) == f"{job_id} {artifact.position}".encode()


async def test_nothing_is_a_file_too(client: ProtocolClient, worker: ProtocolWorker) -> None:
    lease = await _lease(client, worker)
    stored = await worker.upload(lease, b"")
    await worker.complete(lease, stored)
    artifact, chunks = await client.read(stored.id)
    assert artifact.size == 0
    assert b"".join(chunks) == b""


@pytest.mark.parametrize("artifact_id", [4711, 2**63 - 1])
async def test_an_unknown_artifact_is_not_found(client: ProtocolClient, artifact_id: int) -> None:
    error = await refused(client.read(artifact_id))
    assert error.status is grpc.StatusCode.NOT_FOUND
    assert error.reason == "ARTIFACT_NOT_FOUND"


async def test_a_bad_read_names_its_wrong_fields(client: ProtocolClient) -> None:
    assert (await refused(client.read(0, 151))).fields == ("artifact_id", "thumbnail_size")
    assert (await refused(client.read(-1))).fields == ("artifact_id",)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"size": 8}, id="too short"),
        pytest.param({"size": 6}, id="too long"),
        pytest.param({"sha256": bytes(32)}, id="other bytes"),
    ],
)
async def test_other_bytes_than_announced_are_refused_and_leave_nothing(
    client: ProtocolClient,
    worker: ProtocolWorker,
    stored_files: StoredFiles,
    said: dict[str, object],
) -> None:
    lease = await _lease(client, worker)
    error = await refused(worker.send(_header(lease, b"picture", **said), _chunk(b"picture")))

    assert error.status is grpc.StatusCode.DATA_LOSS
    assert error.reason == "CONTENT_MISMATCH"
    assert stored_files() == []
    assert (await refused(client.read(1))).reason == "ARTIFACT_NOT_FOUND"
    # sent again, it is fine
    stored = await worker.upload(lease, b"picture")
    assert await worker.complete(lease, stored) == COMPLETED


async def test_a_large_upload_that_breaks_off_leaves_nothing(
    client: ProtocolClient, worker: ProtocolWorker, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    cut = LARGE[: len(LARGE) - 1000]
    chunks = [_chunk(cut[start : start + CHUNK]) for start in range(0, len(cut), CHUNK)]
    error = await refused(worker.send(_header(lease, LARGE), *chunks))
    assert error.reason == "CONTENT_MISMATCH"
    assert stored_files() == []


async def test_repeating_an_upload_gives_the_same_artifact(
    client: ProtocolClient, worker: ProtocolWorker, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    first = await worker.upload(lease, b"picture")
    again = await worker.upload(lease, b"picture")
    at_once = await asyncio.gather(*(worker.upload(lease, b"picture") for _ in range(5)))

    assert again == first
    assert {artifact.id for artifact in at_once} == {first.id}
    assert stored_files() == [b"picture"]
    await worker.complete(lease, first)
    assert list((await client.get(lease.job_id)).artifacts) == [first]


async def test_a_bad_upload_names_its_wrong_fields(
    client: ProtocolClient, worker: ProtocolWorker, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    fine = _header(lease, b"picture")
    header = pb.UploadArtifactRequest()
    header.header.lease.job_id = -1
    cases: list[tuple[list[pb.UploadArtifactRequest], set[str]]] = [
        ([], {"header"}),
        ([_chunk(b"picture")], {"header"}),
        ([pb.UploadArtifactRequest()], {"header"}),
        ([fine, fine, _chunk(b"picture")], {"chunk"}),
        ([_header(lease, b"x" * (CHUNK + 1)), _chunk(b"x" * (CHUNK + 1))], {"chunk"}),
        ([fine, pb.UploadArtifactRequest()], {"chunk"}),
        ([_header(lease, b"", filename="../../etc/passwd")], {"header.filename"}),
        ([_header(lease, b"", filename="a\\b")], {"header.filename"}),
        ([_header(lease, b"", filename="a\0b")], {"header.filename"}),
        ([_header(lease, b"", filename="")], {"header.filename"}),
        ([_header(lease, b"", sha256=b"short")], {"header.sha256"}),
        ([_header(lease, b"", thumbnail_size=150)], {"header.thumbnail_size"}),
        ([_header(lease, b"", role=99)], {"header.role"}),
        ([_header(lease, b"", content_type="image/png\r\nx: y")], {"header.content_type"}),
        ([_header(lease, b"", content_type="image/pñg")], {"header.content_type"}),
        ([_header(lease, b"", position=-1, size=-1, width=-1)],
         {"header.position", "header.size", "header.width"}),
        ([header], {"header.lease.job_id", "header.lease.lease_token", "header.role",
                    "header.filename", "header.sha256", "header.content_type"}),
    ]  # fmt: skip
    for messages, fields in cases:
        error = await refused(worker.send(*messages))
        assert error.status is grpc.StatusCode.INVALID_ARGUMENT
        assert set(error.fields) == fields
    assert stored_files() == []


async def test_the_files_of_a_failed_attempt_are_removed(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    for position in range(3):
        await worker.upload(lease, f"{position}".encode(), position=position)
    assert len(stored_files()) == 3

    async with deletions(sql, "job_artifacts", 3):
        await worker.fail(lease, retry_after=0)
    assert stored_files() == []

    again = await worker.lease_one()
    picture = await worker.upload(again, b"picture")
    assert await worker.complete(again, picture) == COMPLETED
    assert [one.attempt for one in (await client.get(lease.job_id)).artifacts] == [2]


async def test_a_file_that_arrives_after_its_attempt_was_swept_is_removed_too(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    call = worker.stub.UploadArtifact(timeout=30)
    await call.write(_header(lease, b"picture"))
    await call.write(_chunk(b"pict"))
    await _announced(sql)
    async with deletions(sql, "job_artifacts", 1):
        await worker.release(lease)
    await call.write(_chunk(b"ure"))
    await call.done_writing()

    assert (await refused(call)).reason == "LEASE_LOST"
    assert stored_files() == []


async def test_an_upload_whose_lease_has_ended_is_told_so_while_it_is_still_sending(
    client: ProtocolClient, worker: ProtocolWorker, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    await worker.release(lease)
    for _ in range(5):
        error = await refused(worker.upload(lease, bytes(24 * 1024**2)))
        assert (error.status, error.reason) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
    assert stored_files() == []


async def test_an_upload_whose_worker_vanishes_leaves_no_file(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    call = worker.stub.UploadArtifact(timeout=30)
    await call.write(_header(lease, LARGE))
    await call.write(_chunk(LARGE[:CHUNK]))
    await _announced(sql)
    call.cancel()

    assert (await client.get(lease.job_id)).status == RUNNING
    stored = await worker.upload(lease, LARGE)
    assert await worker.complete(lease, stored) == COMPLETED
    assert b"".join((await client.read(stored.id))[1]) == LARGE


async def _announced(sql: Sql) -> None:
    """Return once the row of an upload is there."""
    async with asyncio.timeout(20):
        while not await (await sql.execute("SELECT id FROM job_artifacts")).fetchone():
            pass


async def test_only_completed_jobs_show_artifacts(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    lease = await _lease(client, worker)
    await worker.upload(lease, b"picture")
    assert list((await client.get(lease.job_id)).artifacts) == []
    await worker.complete(lease)
    (artifact,) = (await client.get(lease.job_id)).artifacts
    assert artifact.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT


async def test_a_reader_that_goes_away_troubles_nobody(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    lease = await _lease(client, worker)
    stored = await worker.upload(lease, LARGE)
    await worker.complete(lease, stored)
    call = client.stub.ReadArtifact(jobs_pb.ReadArtifactRequest(artifact_id=stored.id), timeout=20)
    async for _ in call:
        break
    call.cancel()
    assert b"".join((await client.read(stored.id))[1]) == LARGE
