"""UploadArtifacts with the completion of the job: both happen, or neither."""

import asyncio

import grpc
import pytest
from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.settings import Settings
from tests.jobs_protocol import COMPLETED, RUNNING, ProtocolClient, refused
from tests.service.test_delete_job import deletions
from tests.service_fixture import Sql, StoredFiles
from tests.statements_sent import statements_of_calls
from tests.worker_protocol import ProtocolWorker, artifact_file, seconds, thumbnail


@pytest.fixture
async def lease(client: ProtocolClient, worker: ProtocolWorker) -> pb.Lease:
    await client.create()
    return await worker.lease_one()


def files_of(lease: pb.Lease) -> list[pb.ArtifactFile]:
    return [
        artifact_file(lease, b"a picture"),
        *(artifact_file(lease, b"small %d" % size, **thumbnail(size)) for size in (600, 300, 150)),
    ]


async def test_the_job_is_completed_with_the_files(
    client: ProtocolClient, worker: ProtocolWorker, lease: pb.Lease
) -> None:
    files = files_of(lease)
    with statements_of_calls() as sent:
        answer = await worker.complete_with(lease, files, running_for=seconds(0))
    assert len([text for text, _ in sent if b"job_artifacts" in text]) == 2

    assert answer.completed.status == COMPLETED
    assert [one.sha256 for one in answer.artifacts] == [file.header.sha256 for file in files]
    job = await client.get(lease.job_id)
    assert job.status == COMPLETED
    assert sorted(one.id for one in job.artifacts) == sorted(one.id for one in answer.artifacts)
    assert job.started_at == job.completed_at
    for artifact, file in zip(answer.artifacts, files, strict=True):
        assert b"".join((await client.read(artifact.id))[1]) == file.content


async def test_files_of_earlier_calls_are_the_jobs_as_well(
    client: ProtocolClient, worker: ProtocolWorker, lease: pb.Lease
) -> None:
    first = await worker.upload(lease, b"large")
    answer = await worker.complete_with(lease, [artifact_file(lease, b"small", position=1)], first)
    job = await client.get(lease.job_id)
    assert [one.id for one in job.artifacts] == [first.id, answer.artifacts[0].id]


async def test_repeating_the_call_answers_the_same_and_changes_nothing(
    client: ProtocolClient, worker: ProtocolWorker, lease: pb.Lease, stored_files: StoredFiles
) -> None:
    files = files_of(lease)
    at_once = await asyncio.gather(*(worker.complete_with(lease, files) for _ in range(6)))
    first = at_once[0]
    assert all(answer == first for answer in at_once)
    before = await client.get(lease.job_id)

    other = [artifact_file(lease, b"another picture"), *files[1:]]
    assert await worker.complete_with(lease, other) == first
    assert await worker.complete_with(lease, [artifact_file(lease, b"", position=7)]) == (
        pb.UploadArtifactsResponse(completed=first.completed)
    )
    assert await worker.complete(lease) == COMPLETED
    assert await client.get(lease.job_id) == before
    assert len(before.artifacts) == 4
    assert sorted(stored_files()) == sorted(file.content for file in files)


async def test_a_lease_that_has_ended_completes_nothing(
    client: ProtocolClient,
    worker: ProtocolWorker,
    lease: pb.Lease,
    sql: Sql,
    stored_files: StoredFiles,
) -> None:
    await worker.release(lease)
    again = await worker.lease_one()
    assert (await refused(worker.complete_with(lease, files_of(lease)))).reason == "LEASE_LOST"
    assert stored_files() == []

    answer = await worker.complete_with(again, files_of(again))
    assert answer.completed.status == COMPLETED
    # nor does one that has ended otherwise than in completion
    assert (await refused(worker.complete_with(lease, files_of(lease)))).reason == "LEASE_LOST"
    assert len(stored_files()) == 4
    async with deletions(sql, "job_artifacts", 4):
        await client.delete(again.job_id)
    assert (await refused(worker.complete_with(again, files_of(again)))).reason == "LEASE_LOST"
    assert stored_files() == []


async def test_calls_for_several_jobs_share_no_fate(
    client: ProtocolClient, worker: ProtocolWorker, stored_files: StoredFiles
) -> None:
    for _ in range(4):
        await client.create()
    leases = [await worker.lease_one() for _ in range(4)]
    lost, *held = leases
    await worker.release(lost)
    foreign = await worker.upload(held[0], b"of another job", position=5)
    gone, first, wrong, second = await asyncio.gather(
        refused(worker.complete_with(lost, files_of(lost))),
        worker.complete_with(held[0], files_of(held[0])),
        refused(worker.complete_with(held[1], files_of(held[1]), foreign)),
        worker.complete_with(held[2], files_of(held[2])),
    )
    assert gone.reason == "LEASE_LOST"
    assert wrong.fields == ("completion.artifact_ids",)
    assert first.completed.status == second.completed.status == COMPLETED
    assert (await client.get(held[1].job_id)).status == RUNNING
    assert (await worker.complete_with(held[1], files_of(held[1]))).completed.status == COMPLETED
    for lease in held:
        job = await client.get(lease.job_id)
        assert len(job.artifacts) == 4 + (lease is held[0])


async def test_after_a_cancel_the_picture_counts(
    client: ProtocolClient, worker: ProtocolWorker, lease: pb.Lease
) -> None:
    await client.cancel(lease.job_id)
    assert (await worker.complete_with(lease, files_of(lease))).completed.status == COMPLETED


async def test_one_file_with_other_bytes_than_announced_leaves_the_job_running(
    client: ProtocolClient, worker: ProtocolWorker, lease: pb.Lease, stored_files: StoredFiles
) -> None:
    wrong = artifact_file(lease, b"picture", position=1, sha256=bytes(32))
    error = await refused(worker.complete_with(lease, [*files_of(lease), wrong]))
    assert (error.status, error.reason) == (grpc.StatusCode.DATA_LOSS, "CONTENT_MISMATCH")
    assert stored_files() == []
    assert (await client.get(lease.job_id)).status == RUNNING


async def test_a_store_that_fails_leaves_the_job_running(
    client: ProtocolClient,
    worker: ProtocolWorker,
    lease: pb.Lease,
    service_settings: Settings,
) -> None:
    # A directory where the second file would be.
    place = service_settings.data_dir / "artifacts" / "jobs" / f"{lease.job_id}" / "1"
    blocked = place / "0-thumbnail-600"
    (blocked / "full").mkdir(parents=True)
    error = await refused(worker.complete_with(lease, files_of(lease)))
    assert error.reason == "ARTIFACT_STORE_UNAVAILABLE"
    job = await client.get(lease.job_id)
    assert job.status == RUNNING

    (blocked / "full").rmdir()
    blocked.rmdir()
    answer = await worker.complete_with(lease, files_of(lease))
    assert answer.completed.status == COMPLETED
    assert len((await client.get(lease.job_id)).artifacts) == 4


async def test_a_bad_completion_names_its_wrong_fields(
    client: ProtocolClient, worker: ProtocolWorker, lease: pb.Lease, stored_files: StoredFiles
) -> None:
    await client.create()
    other = await worker.lease_one()
    crossed = pb.LeaseRef(job_id=lease.job_id, lease_token=other.lease_token)
    cases: list[tuple[dict[str, object], set[str]]] = [
        ({"lease": crossed}, {"completion.lease"}),
        ({"lease": pb.LeaseRef(job_id=other.job_id, lease_token=other.lease_token)},
         {"completion.lease"}),
        ({"lease": pb.LeaseRef(job_id=-1, lease_token="x")},
         {"completion.lease", "completion.lease.job_id", "completion.lease.lease_token"}),
        ({"worker": pb.WorkerIdentity(name="a b", instance_id="x")},
         {"completion.worker.name", "completion.worker.instance_id"}),
        ({"prompt_id": "x" * 256}, {"completion.prompt_id"}),
        ({"prompt_id": "a\0b"}, {"completion.prompt_id"}),
        ({"running_for": seconds(-1)}, {"completion.running_for"}),
        ({"artifact_ids": [2**63 - 1]}, {"completion.artifact_ids"}),
        ({"artifact_ids": [-1]}, {"completion.artifact_ids"}),
    ]  # fmt: skip
    for fields, named in cases:
        error = await refused(worker.complete_with(lease, files_of(lease), **fields))
        assert error.status is grpc.StatusCode.INVALID_ARGUMENT
        assert set(error.fields) == named
    none = await refused(worker.complete_with(lease, []))
    assert "files" in none.fields
    for held in (lease, other):
        assert (await client.get(held.job_id)).status == RUNNING
        assert (await worker.complete_with(held, files_of(held))).completed.status == COMPLETED
    assert len(stored_files()) == 8
