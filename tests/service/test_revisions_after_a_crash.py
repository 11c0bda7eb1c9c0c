"""A revision of a job that was told is not given to another state after PostgreSQL has crashed."""

from pathlib import Path

import grpc
import pytest

from job_service import server
from job_service.embedded_postgres import EmbeddedPostgres
from job_service.settings import Settings
from tests.crashing_postgres import connected, until_it_crashes
from tests.jobs_protocol import ProtocolClient
from tests.worker_protocol import ProtocolWorker, seconds


@pytest.mark.parametrize(
    "began",
    [{"prompt_id": "a prompt"}, {"running_for": seconds(1)}],
    ids=["submitted", "started"],
)
async def test_what_a_report_of_progress_begins_is_kept(
    began: dict[str, object], tmp_path: Path
) -> None:
    async with until_it_crashes(tmp_path / "postgres") as url:
        settings = Settings(database_url=url, data_dir=tmp_path, listen="127.0.0.1:0")
        async with (
            server.running(settings) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            client, worker = ProtocolClient(channel), ProtocolWorker(channel)
            await worker.report_catalogue()
            job = await client.create()
            lease = await worker.lease_one()
            await worker.progress(lease, 0.5)
            before = (await client.get(job.id)).revision
            await worker.progress(lease, 0.5, **began)
            told = (await client.get(job.id)).revision
            assert told == before + 1
    async with (
        EmbeddedPostgres(tmp_path / "postgres") as postgres,
        await connected(postgres.url) as operator,
    ):
        rows = await (await operator.execute("SELECT revision FROM generation_jobs")).fetchall()
    assert rows == [(told,)]
