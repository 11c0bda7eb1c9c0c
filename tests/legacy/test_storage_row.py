"""What the storage service of the former system offered."""

from datetime import timedelta

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from google.protobuf import timestamp_pb2

from job_service.settings import Settings
from tests.jobs_protocol import COMPLETED, ProtocolClient, refused
from tests.service.test_delete_job import deletions
from tests.service_fixture import Sql, StoredFiles
from tests.worker_protocol import ProtocolWorker, thumbnail

ANNA, BERT = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    """Files go after 30 days, as in the former system."""
    return service_settings.model_copy(update={"artifact_retention": timedelta(days=30)})


async def usage(client: ProtocolClient) -> dict[str, tuple[int, int]]:
    """Files and bytes of each user, however old their jobs are."""
    request = pb.GetJobStatsRequest(
        filter=job_pb2.JobFilter(created_after=timestamp_pb2.Timestamp()),
        group_by=[pb.STATS_DIMENSION_USER],
        include_storage=True,
    )
    rows = (await client.stub.GetJobStats(request, timeout=20)).rows
    return {row.user_id: (row.artifact_count, row.artifact_bytes) for row in rows}


async def test_row_user_storage_usage_cleanup_of_files_older_than_30_days_and_path_safety(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    jobs = [await client.create(user_id=user) for user in (ANNA, ANNA, BERT)]
    for _ in jobs:
        lease = await worker.lease_one()
        # no name that a worker gives leads out of the store
        for filename in ("../../etc/passwd", "/etc/passwd", "..\\boot.ini", ".."):
            error = await refused(worker.upload(lease, b"x", filename=filename))
            assert (error.status, error.fields) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                ("header.filename",),
            )
        picture = await worker.upload(lease, b"picture")
        small = await worker.upload(lease, b"small", **thumbnail(150))
        await worker.complete(lease, picture, small)
    assert await usage(client) == {ANNA: (4, 24), BERT: (2, 12)}
    mine = pb.GetJobStatsRequest(filter=job_pb2.JobFilter(user_id=ANNA), include_storage=True)
    (anna,) = (await client.stub.GetJobStats(mine, timeout=20)).rows
    assert (anna.total, anna.artifact_bytes) == (2, 24)

    first, second, third = jobs
    await sql.execute(
        "UPDATE generation_jobs SET created_at = created_at - interval '31 days',"
        f" completed_at = completed_at - interval '31 days' WHERE id = {first.id}".encode()
    )
    await sql.execute(
        "UPDATE job_artifacts SET created_at = created_at - interval '31 days'"
        f" WHERE job_id = {first.id}".encode()
    )
    async with deletions(sql, "job_artifacts", 4):
        await client.delete(third.id)
    assert sorted(stored_files()) == [b"picture", b"small"]
    assert await usage(client) == {ANNA: (2, 12)}
    old = await client.get(first.id)
    assert (old.status, list(old.artifacts)) == (COMPLETED, [])
    assert len((await client.get(second.id)).artifacts) == 2
