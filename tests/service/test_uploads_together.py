"""UploadArtifacts: small files in one call, all of them stored or none."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from aiohttp import web
from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.settings import Settings
from tests.jobs_protocol import COMPLETED, ProtocolClient, refused
from tests.service.test_delete_job import deletions
from tests.service_fixture import Sql, StoredFiles
from tests.statements_sent import statements_of_calls
from tests.worker_protocol import ProtocolWorker, artifact_file, thumbnail

MOST_BYTES = 3 * 1024 * 1024


async def _lease(client: ProtocolClient, worker: ProtocolWorker) -> pb.Lease:
    await client.create()
    return await worker.lease_one()


def _picture_and_thumbnails(lease: pb.Lease) -> list[pb.ArtifactFile]:
    return [
        artifact_file(lease, b"a picture"),
        *(artifact_file(lease, b"small %d" % size, **thumbnail(size)) for size in (600, 300, 150)),
    ]


async def test_files_are_stored_in_the_order_given_and_come_back_byte_for_byte(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    lease = await _lease(client, worker)
    files = _picture_and_thumbnails(lease)
    stored = await worker.upload_together(*files)

    assert [one.thumbnail_size for one in stored] == [0, 600, 300, 150]
    assert [one.sha256 for one in stored] == [file.header.sha256 for file in files]
    assert {(one.job_id, one.attempt, one.position) for one in stored} == {(lease.job_id, 1, 0)}
    assert await worker.complete(lease, *stored) == COMPLETED
    listed = (await client.get(lease.job_id)).artifacts
    assert sorted(one.id for one in listed) == sorted(one.id for one in stored)
    for artifact, file in zip(stored, files, strict=True):
        found, chunks = await client.read(artifact.id)
        assert found == artifact
        assert b"".join(chunks) == file.content


async def test_they_take_two_statements_however_many_they_are(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    lease = await _lease(client, worker)
    files = [artifact_file(lease, b"%d" % position, position=position) for position in range(64)]
    with statements_of_calls() as sent:
        stored = await worker.upload_together(*files)
    assert [one.position for one in stored] == list(range(64))
    assert len([text for text, _ in sent if b"job_artifacts" in text]) == 2


async def test_as_much_as_fits_one_call(client: ProtocolClient, worker: ProtocolWorker) -> None:
    lease = await _lease(client, worker)
    large = bytes(range(256)) * (MOST_BYTES // 256 - 1)
    files = [artifact_file(lease, large), artifact_file(lease, b"x" * 256, position=1)]
    stored = await worker.upload_together(*files)
    await worker.complete(lease, *stored)
    assert b"".join((await client.read(stored[0].id))[1]) == large


async def test_repeating_the_call_gives_the_same_artifacts(
    client: ProtocolClient, worker: ProtocolWorker, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    files = _picture_and_thumbnails(lease)
    first = await worker.upload_together(*files)
    at_once = await asyncio.gather(*(worker.upload_together(*files) for _ in range(5)))
    alone = await worker.upload(lease, b"a picture")

    assert all(again == first for again in at_once)
    assert alone == first[0]
    assert sorted(stored_files()) == sorted(file.content for file in files)


async def test_calls_that_come_together_share_no_fate(
    client: ProtocolClient, worker: ProtocolWorker, stored_files: StoredFiles
) -> None:
    lost = await _lease(client, worker)
    await worker.release(lost)
    lease = await worker.lease_one()
    other = await _lease(client, worker)
    late = (refused(worker.upload_together(*_picture_and_thumbnails(lost))) for _ in range(3))
    stored, others, refusals = await asyncio.gather(
        worker.upload_together(*_picture_and_thumbnails(lease)),
        worker.upload_together(*_picture_and_thumbnails(other)),
        asyncio.gather(*late),
    )
    assert {one.reason for one in refusals} == {"LEASE_LOST"}
    assert await worker.complete(lease, *stored) == COMPLETED
    assert await worker.complete(other, *others) == COMPLETED
    assert len(stored_files()) == 8


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"size": 8}, id="too short"),
        pytest.param({"size": 6}, id="too long"),
        pytest.param({"sha256": bytes(32)}, id="other bytes"),
    ],
)
async def test_one_file_with_other_bytes_than_announced_has_none_stored(
    client: ProtocolClient,
    worker: ProtocolWorker,
    sql: Sql,
    stored_files: StoredFiles,
    said: dict[str, object],
) -> None:
    lease = await _lease(client, worker)
    fine = artifact_file(lease, b"picture")
    wrong = artifact_file(lease, b"picture", position=1, filename="second.png", **said)
    error = await refused(worker.upload_together(fine, wrong))

    assert error.status is grpc.StatusCode.DATA_LOSS
    assert error.reason == "CONTENT_MISMATCH"
    assert "files[1] ('second.png')" in error.message
    assert stored_files() == []
    assert await (await sql.execute("SELECT id FROM job_artifacts")).fetchone() is None
    right = artifact_file(lease, b"picture", position=1, filename="second.png")
    assert await worker.complete(lease, *await worker.upload_together(fine, right)) == COMPLETED


async def test_a_bad_call_names_its_wrong_fields(
    client: ProtocolClient, worker: ProtocolWorker, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    other = await _lease(client, worker)
    crossed = pb.Lease(job_id=lease.job_id, lease_token=other.lease_token)
    fine = artifact_file(lease, b"picture")
    headless = pb.ArtifactFile(content=b"picture")
    cases: list[tuple[list[pb.ArtifactFile], set[str]]] = [
        ([], {"files"}),
        ([artifact_file(lease, b"", position=n) for n in range(65)], {"files"}),
        ([artifact_file(lease, bytes(MOST_BYTES)), artifact_file(lease, b"x", position=1)],
         {"files"}),
        ([fine, artifact_file(other, b"x", position=1)], {"files[1].header.lease"}),
        ([fine, artifact_file(crossed, b"x", position=1)], {"files[1].header.lease"}),
        ([fine, artifact_file(lease, b"x", **thumbnail(150)), fine],
         {"files[2].header.position"}),
        ([fine, artifact_file(lease, b"x", position=1, filename="../x", sha256=b"short")],
         {"files[1].header.filename", "files[1].header.sha256"}),
        ([headless], {f"files[0].header.{field}" for field in (
            "role", "sha256", "filename", "content_type", "lease.job_id", "lease.lease_token")}),
    ]  # fmt: skip
    for files, fields in cases:
        error = await refused(worker.upload_together(*files))
        assert error.status is grpc.StatusCode.INVALID_ARGUMENT
        assert set(error.fields) == fields
    assert stored_files() == []


async def test_a_message_beyond_the_limit_of_all_calls_is_told_so(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    lease = await _lease(client, worker)
    error = await refused(worker.upload_together(artifact_file(lease, bytes(4 * 1024 * 1024))))
    assert error.reason == "MESSAGE_TOO_LARGE"


async def test_the_files_of_a_failed_attempt_are_removed(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    lease = await _lease(client, worker)
    await worker.upload_together(*_picture_and_thumbnails(lease))
    assert len(stored_files()) == 4
    async with deletions(sql, "job_artifacts", 4):
        await worker.fail(lease, retry_after=0)
    assert stored_files() == []


@pytest.fixture
async def slow_bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["SlowBucket"]:
    bucket = SlowBucket()
    async with bucket.serving() as address:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": address,
            "AWS_ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield bucket


@pytest.fixture
def service_settings(service_settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """With the slow bucket, when the test takes it."""
    if "slow_bucket" not in request.fixturenames:
        return service_settings
    request.getfixturevalue("slow_bucket")
    return service_settings.model_copy(update={"artifact_store": "s3://pictures/made"})


class SlowBucket:
    """As much of S3 as the service needs. It stores nothing before it is told to ``go``."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken: set[bytes] = set()
        self.go = asyncio.Event()
        self._asked = 0
        self._news = asyncio.Condition()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_put("/{key:.*}", self._put)
        app.router.add_post("/{bucket}", self._delete)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            self.go.set()
            await runner.cleanup()

    async def asked(self, count: int) -> None:
        """Return once so many objects are being put."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: self._asked >= count)

    async def _put(self, request: web.Request) -> web.Response:
        content = await request.read()
        async with self._news:
            self._asked += 1
            self._news.notify_all()
        await self.go.wait()
        if content in self.broken:
            return web.Response(status=403)
        self.objects[request.path] = content
        return web.Response(headers={"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})

    async def _delete(self, request: web.Request) -> web.Response:
        """DeleteObjects: the keys are in an XML text."""
        keys = re.findall("<Key>(.*?)</Key>", await request.text())
        for key in keys:
            self.objects.pop(f"{request.path}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        return web.Response(text=f"<DeleteResult>{deleted}</DeleteResult>")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(set(), "LEASE_LOST"), ({b"small 300"}, "ARTIFACT_STORE_UNAVAILABLE")],
    ids=["stored", "one not stored"],
)
async def test_what_is_stored_after_its_attempt_was_swept_is_removed_too(
    client: ProtocolClient,
    worker: ProtocolWorker,
    sql: Sql,
    slow_bucket: SlowBucket,
    broken: set[bytes],
    reason: str,
) -> None:
    lease = await _lease(client, worker)
    slow_bucket.broken = broken
    call = asyncio.create_task(refused(worker.upload_together(*_picture_and_thumbnails(lease))))
    await slow_bucket.asked(4)
    async with deletions(sql, "job_artifacts", 4):
        await worker.release(lease)
    slow_bucket.go.set()

    assert (await call).reason == reason
    assert slow_bucket.objects == {}


async def test_in_a_bucket_they_are_stored_side_by_side(
    client: ProtocolClient, worker: ProtocolWorker, slow_bucket: SlowBucket
) -> None:
    lease = await _lease(client, worker)
    files = _picture_and_thumbnails(lease)
    call = asyncio.create_task(worker.upload_together(*files))
    await slow_bucket.asked(4)
    slow_bucket.go.set()
    assert await worker.complete(lease, *await call) == COMPLETED
    assert sorted(slow_bucket.objects.values()) == sorted(file.content for file in files)
