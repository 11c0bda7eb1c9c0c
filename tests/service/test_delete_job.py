"""DeleteJob removes a job that has ended, and its files with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from tests.jobs_protocol import CANCELLED, PENDING, RUNNING, ProtocolClient, refused
from tests.service_fixture import Sql, StoredFiles
from tests.worker_protocol import ProtocolWorker, thumbnail


@asynccontextmanager
async def deletions(sql: Sql, table: str, count: int) -> AsyncIterator[None]:
    """Leave the block only after so many rows of ``table`` have been deleted."""
    await sql.execute(
        f"""
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_notify(''deleted'', OLD.id::text); RETURN NULL; END';
        CREATE TRIGGER tell AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION tell();
        LISTEN deleted;
    """.encode()
    )
    yield
    heard = [notify async for notify in sql.notifies(timeout=30, stop_after=count)]
    assert len(heard) >= count


async def _gone(client: ProtocolClient, job_id: int) -> bool:
    return (await refused(client.get(job_id))).reason == "JOB_NOT_FOUND"


async def test_a_job_that_has_ended_goes_with_its_files(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    kept, gone = await client.create(), await client.create()
    for lease in await worker.lease(max_jobs=2):
        content = b"kept" if lease.job_id == kept.id else b"gone"
        picture = await worker.upload(lease, content)
        small = await worker.upload(lease, content + b" small", **thumbnail(150))
        await worker.complete(lease, picture, small)
    assert sorted(stored_files()) == [b"gone", b"gone small", b"kept", b"kept small"]
    artifact = (await client.get(gone.id)).artifacts[0]

    async with deletions(sql, "job_artifacts", 2):
        assert await client.delete(gone.id)
        assert await _gone(client, gone.id)
        assert (await refused(client.read(artifact.id))).reason == "ARTIFACT_NOT_FOUND"
    assert sorted(stored_files()) == [b"kept", b"kept small"]
    assert (await refused(client.delete(gone.id))).reason == "JOB_NOT_FOUND"


async def test_a_live_job_is_not_deleted_unless_it_shall_be_cancelled(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    running, pending = await client.create(), await client.create()
    await worker.lease_one()
    for job, status in ((running, "running"), (pending, "pending")):
        error = await refused(client.delete(job.id))
        assert error.status is grpc.StatusCode.FAILED_PRECONDITION
        assert error.reason == "WRONG_STATE"
        assert error.metadata == {"status": status}
    assert (await client.get(running.id)).status == RUNNING
    assert (await client.get(pending.id)).status == PENDING

    assert await client.delete(pending.id, cancel=True)
    assert await _gone(client, pending.id)


async def test_a_running_job_goes_away_once_its_worker_has_let_go(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.upload(lease, b"half done")
    held = asyncio.create_task(worker.beat(lease, wait=10))
    await worker.beat(lease)
    assert not await client.delete(job.id, cancel=True)
    assert not await client.delete(job.id, cancel=True)
    assert len((await held).verdicts) == 1
    assert (await client.get(job.id)).status == RUNNING

    async with deletions(sql, "job_artifacts", 1):
        assert await worker.release(lease) == CANCELLED
    assert await _gone(client, job.id)
    assert stored_files() == []


async def test_a_running_job_that_completes_all_the_same_goes_away_too(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    picture = await worker.upload(lease, b"picture")
    await client.delete(job.id, cancel=True)
    async with deletions(sql, "job_artifacts", 1):
        await worker.complete(lease, picture)
    assert await _gone(client, job.id)
    assert stored_files() == []


@pytest.mark.parametrize("on_delete", ["NO ACTION", "RESTRICT"])
async def test_a_job_that_the_application_refers_to_stays(
    client: ProtocolClient, sql: Sql, on_delete: str
) -> None:
    job = await client.create()
    await client.cancel(job.id)
    await sql.execute(
        "CREATE TABLE content"
        f" (job_id bigint REFERENCES generation_jobs ON DELETE {on_delete})".encode()
    )
    await sql.execute("INSERT INTO content VALUES (%s)", [job.id])
    error = await refused(client.delete(job.id))

    assert error.status is grpc.StatusCode.FAILED_PRECONDITION
    assert error.reason == "JOB_REFERENCED"
    assert (await client.get(job.id)).status == CANCELLED
    await sql.execute("DELETE FROM content")
    assert await client.delete(job.id)


async def test_a_job_that_is_referred_to_does_not_keep_others_from_going(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    kept, gone = await client.create(), await client.create()
    leases = await worker.lease(max_jobs=2)
    await sql.execute("CREATE TABLE content (job_id bigint REFERENCES generation_jobs)")
    await sql.execute("INSERT INTO content VALUES (%s)", [kept.id])
    for job in (kept, gone):
        await client.delete(job.id, cancel=True)

    async with deletions(sql, "generation_jobs", 1):
        for lease in leases:
            await worker.release(lease)
    assert await _gone(client, gone.id)
    assert (await client.get(kept.id)).status == CANCELLED


async def test_a_watch_of_a_job_that_is_deleted_ends(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    async with client.watching(job.id) as watch:
        await client.delete(job.id, cancel=True)
        await worker.release(lease)
        try:
            await watch.until(CANCELLED)
        except grpc.aio.AioRpcError as error:
            # it was removed before the watch could read it
            ended = error.code()
        else:
            assert await watch.rest() == []
            ended = grpc.StatusCode.OK
    assert ended in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)


async def test_a_job_is_unknown_to_everything_once_it_is_deleted(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql
) -> None:
    job = await client.create(request_id="again")
    lease = await worker.lease_one()
    await worker.complete(lease)
    await client.delete(job.id)

    assert await _gone(client, job.id)
    assert (await refused(worker.complete(lease))).reason == "LEASE_LOST"
    assert (await client.list_jobs()).jobs == []
    attempts = await sql.execute("SELECT count(*) FROM job_attempts")
    assert await attempts.fetchone() == (0,)
    # its request_id is free again
    assert (await client.create(request_id="again")).id > job.id


async def test_a_job_that_upkeep_is_quicker_to_remove_is_deleted_all_the_same(
    client: ProtocolClient, sql: Sql
) -> None:
    job = await client.create()
    # as the upkeep of another replica that comes between the cancel and the deletion
    await sql.execute("""
        CREATE FUNCTION upkeep() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN DELETE FROM generation_jobs WHERE id = NEW.id; RETURN NULL; END';
        CREATE TRIGGER upkeep AFTER UPDATE ON generation_jobs
            FOR EACH ROW WHEN (NEW.delete_when_ended AND NEW.status = 'cancelled')
            EXECUTE FUNCTION upkeep();
    """)
    assert await client.delete(job.id, cancel=True)
    assert await _gone(client, job.id)
    assert (await refused(client.delete(job.id, cancel=True))).reason == "JOB_NOT_FOUND"
