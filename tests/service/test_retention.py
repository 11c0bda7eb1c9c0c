"""Files and jobs go when they have been kept as long as is set; no sooner, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from job_service.settings import Settings
from job_service.store.database import Database
from job_service.store.retention import BEGINNING, Place, RetentionStore
from tests.generic_plan import plan_of
from tests.inputs_protocol import InputClient, noise
from tests.jobs_protocol import CANCELLED, COMPLETED, PENDING, RUNNING, ProtocolClient, refused
from tests.service.test_delete_job import deletions
from tests.service_fixture import Sql, StoredFiles
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker, thumbnail

MONTH = timedelta(days=30)


@pytest.fixture
def kept_for() -> dict[str, Any]:
    """Which retentions are set; a test may override it."""
    return {}


@pytest.fixture
def service_settings(service_settings: Settings, kept_for: dict[str, Any]) -> Settings:
    return service_settings.model_copy(update=kept_for)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[RetentionStore]:
    database = Database(database_url)
    yield RetentionStore(database)
    await database.close()


async def completed(client: ProtocolClient, worker: ProtocolWorker) -> job_pb2.GenerationJob:
    """A job with a picture and a thumbnail."""
    job = await client.create()
    lease = await worker.lease_one()
    picture = await worker.upload(lease, f"{job.id}".encode())
    small = await worker.upload(lease, f"{job.id} small".encode(), **thumbnail(150))
    assert await worker.complete(lease, picture, small) == COMPLETED
    return await client.get(job.id)


async def ended_ago(sql: Sql, days: float, *jobs: job_pb2.GenerationJob) -> None:
    """Let it be so long since these jobs and their files were made."""
    age, ids = timedelta(days=days), [job.id for job in jobs]
    await sql.execute(
        "UPDATE generation_jobs SET created_at = created_at - %s, completed_at = completed_at - %s"
        " WHERE id = ANY(%s)",
        [age, age, ids],
    )
    await sql.execute(
        "UPDATE job_artifacts SET created_at = created_at - %s WHERE job_id = ANY(%s)", [age, ids]
    )


async def sweep(client: ProtocolClient) -> None:
    """Have the service sweep now."""
    job = await client.create()
    await client.cancel(job.id)
    await client.delete(job.id)


async def remaining(sql: Sql) -> list[int]:
    cursor = await sql.execute("SELECT id FROM generation_jobs ORDER BY id")
    return [job_id for (job_id,) in await cursor.fetchall()]


@pytest.mark.parametrize("kept_for", [{"artifact_retention": MONTH}])
async def test_files_go_after_their_time_and_their_job_stays(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    old, recent = await completed(client, worker), await completed(client, worker)
    await ended_ago(sql, 30.1, old)
    await ended_ago(sql, 29.9, recent)
    async with deletions(sql, "job_artifacts", 2):
        await sweep(client)

    after = await client.get(old.id)
    assert (after.status, after.prompt, list(after.artifacts)) == (COMPLETED, old.prompt, [])
    for size in (0, 150):
        error = await refused(client.read(old.artifacts[0].id, size))
        assert error.reason == "ARTIFACT_NOT_FOUND"
    assert sorted(stored_files()) == [f"{recent.id}".encode(), f"{recent.id} small".encode()]
    assert len((await client.get(recent.id)).artifacts) == 2
    request = pb.GetJobStatsRequest(include_storage=True)
    (stats,) = (await client.stub.GetJobStats(request, timeout=20)).rows
    assert (stats.completed, stats.artifact_count) == (2, 2)


@pytest.mark.parametrize("kept_for", [{"job_retention": MONTH}])
async def test_jobs_go_after_their_time_with_their_files_and_watches_hear_of_it(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    old, recent = await completed(client, worker), await completed(client, worker)
    given_up = await client.create()
    await client.cancel(given_up.id)
    running = await client.create()
    await worker.lease_one()
    waiting = await client.create()
    await ended_ago(sql, 29.9, recent)
    async with client.watching_jobs() as watch:
        await ended_ago(sql, 30.1, old, given_up, running, waiting)
        async with deletions(sql, "job_artifacts", 2):
            await sweep(client)
        await watch.until(lambda watch: {old.id, given_up.id} <= set(watch.removed))
        assert not {recent.id, running.id, waiting.id} & set(watch.removed)

    for job in (old, given_up):
        assert (await refused(client.get(job.id))).reason == "JOB_NOT_FOUND"
    for job, status in ((recent, COMPLETED), (running, RUNNING), (waiting, PENDING)):
        assert (await client.get(job.id)).status == status
    assert sorted(stored_files()) == [f"{recent.id}".encode(), f"{recent.id} small".encode()]


@pytest.mark.parametrize("kept_for", [{"input_retention": timedelta(days=3)}])
async def test_uploaded_pictures_that_no_job_has_go_after_their_time(
    client: ProtocolClient, channel: grpc.aio.Channel, sql: Sql, stored_files: StoredFiles
) -> None:
    inputs = InputClient(channel)
    contents = noise((8, 8)), noise((8, 8))
    old, recent = [await inputs.upload(content) for content in contents]
    unused = "UPDATE job_inputs SET last_used_at = now() - %s WHERE id = %s"
    await sql.execute(unused, [timedelta(hours=71), recent.id])
    await sql.execute(unused, [timedelta(hours=73), old.id])
    async with deletions(sql, "job_inputs", 1):
        await sweep(client)
    assert stored_files() == [contents[1]]


@pytest.mark.parametrize("kept_for", [{"tombstone_retention": timedelta(days=3)}])
async def test_deletions_are_told_to_interrupted_watches_for_their_time(
    client: ProtocolClient, sql: Sql
) -> None:
    first, second = await client.create(), await client.create()
    tokens = []
    for job in (first, second):
        async with client.watching_jobs() as watch:
            tokens.append(watch.token)
        await client.cancel(job.id)
        await client.delete(job.id)
    aged = "UPDATE job_tombstones SET deleted_at = now() - %s WHERE job_id = %s"
    await sql.execute(aged, [timedelta(hours=73), first.id])
    await sql.execute(aged, [timedelta(hours=71), second.id])
    await sweep(client)
    remembered = "SELECT count(*) FROM job_tombstones WHERE job_id = %s"
    async with asyncio.timeout(30):
        while await (await sql.execute(remembered, [first.id])).fetchone() != (0,):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def resume() -> None:
        async with client.watching_jobs(resume_token=tokens[0]):
            pass

    assert (await refused(resume())).reason == "RESUME_TOKEN_EXPIRED"
    async with client.watching_jobs(resume_token=tokens[1]) as watch:
        assert second.id in watch.removed


async def test_unless_it_is_set_everything_is_kept_for_ever(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, stored_files: StoredFiles
) -> None:
    old, deleted = await completed(client, worker), await completed(client, worker)
    await ended_ago(sql, 10_000, old)
    async with deletions(sql, "job_artifacts", 2):
        await client.delete(deleted.id)
    assert len((await client.get(old.id)).artifacts) == 2
    assert len(stored_files()) == 2


async def test_a_file_counts_from_the_end_of_its_job(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, store: RetentionStore
) -> None:
    job = await completed(client, worker)
    await sql.execute("UPDATE job_artifacts SET created_at = now() - interval '40 days'")
    await store.detach_artifacts(MONTH)
    assert len((await client.get(job.id)).artifacts) == 2

    await ended_ago(sql, 31, job)
    assert await store.detach_artifacts(MONTH, most=1), "there may be more"
    assert await store.detach_artifacts(MONTH, most=1)
    assert not await store.detach_artifacts(MONTH, most=1)
    assert (await client.get(job.id)).artifacts == []


async def cancelled(client: ProtocolClient, sql: Sql, count: int) -> list[int]:
    """Jobs that ended long ago, in this order."""
    jobs = [await client.create() for _ in range(count)]
    for n, job in enumerate(jobs):
        assert (await client.cancel(job.id)).status == CANCELLED
        await ended_ago(sql, 60 - n, job)
    return [job.id for job in jobs]


async def remove_all(store: RetentionStore, most: int = 100) -> tuple[list[int], Place]:
    removed: list[int] = []
    place, more = BEGINNING, True
    while more:
        removal = await store.remove_jobs(MONTH, place, most)
        removed += removal.job_ids
        place, more = removal.place, removal.more
    return sorted(removed), place


@pytest.mark.parametrize("on_delete", ["NO ACTION", "RESTRICT", "RESTRICT DEFERRABLE"])
@pytest.mark.parametrize("most", [1, 2, 100])
async def test_jobs_that_the_application_refers_to_stay_and_keep_nobody_from_going(
    client: ProtocolClient, sql: Sql, store: RetentionStore, on_delete: str, most: int
) -> None:
    ids = await cancelled(client, sql, 6)
    referred = [ids[0], ids[1], ids[4]]
    on_delete = on_delete.replace("RESTRICT DEFERRABLE", "NO ACTION DEFERRABLE")
    await sql.execute(
        f"""
        CREATE SCHEMA app;
        CREATE TABLE app."odd :most 100%" (
            n serial, "job :id" bigint REFERENCES generation_jobs ON DELETE {on_delete}
        );
        CREATE TABLE notes (job_id bigint REFERENCES generation_jobs ON DELETE CASCADE);
        """.encode()
    )
    for job_id in referred:
        await sql.execute(
            b"""INSERT INTO app."odd :most 100%%" ("job :id") VALUES (%s)""", [job_id]
        )
    await sql.execute("INSERT INTO notes SELECT id FROM generation_jobs")
    removed, place = await remove_all(store, most)
    assert removed == [ids[2], ids[3], ids[5]]
    assert await remaining(sql) == referred

    await sql.execute("""DELETE FROM app."odd :most 100%" WHERE n = 2""")
    assert not (await store.remove_jobs(MONTH, place)).job_ids, "they are not looked at again"
    assert (await remove_all(store))[0] == [ids[1]], "but from the beginning they are"


async def test_a_reference_that_comes_at_the_last_moment_holds_its_job_alone(
    client: ProtocolClient, sql: Sql, store: RetentionStore
) -> None:
    ids = await cancelled(client, sql, 5)
    await sql.execute(
        f"""
        CREATE TABLE content (job_id bigint REFERENCES generation_jobs);
        CREATE FUNCTION refer() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO content VALUES (OLD.id); RETURN OLD; END';
        CREATE TRIGGER refer BEFORE DELETE ON generation_jobs
            FOR EACH ROW WHEN (OLD.id = {ids[1]} OR OLD.id = {ids[4]}) EXECUTE FUNCTION refer();
        """.encode()
    )
    removed, _ = await remove_all(store)
    assert removed == [ids[0], ids[2], ids[3]]
    assert await remaining(sql) == [ids[1], ids[4]]


async def test_replicas_remove_each_job_once(
    client: ProtocolClient, sql: Sql, store: RetentionStore
) -> None:
    ids = await cancelled(client, sql, 12)
    found = await asyncio.gather(*(remove_all(store, 2) for _ in range(4)))
    once = sorted(job_id for removed, _ in found for job_id in removed)
    assert len(once) == len(set(once))
    assert set(once) <= set(ids)
    # what was locked by another is left to a later pass
    rest, _ = await remove_all(store)
    assert sorted([*once, *rest]) == ids


async def test_batches_are_found_through_the_indexes(
    client: ProtocolClient, worker: ProtocolWorker, sql: Sql, store: RetentionStore
) -> None:
    job = await completed(client, worker)
    await sql.execute(
        """
        INSERT INTO generation_jobs (user_id, prompt, status, completed_at, attempt)
        SELECT user_id, prompt, status, now() - n * interval '5 minutes', 1
        FROM generation_jobs, generate_series(1, 20000) AS n WHERE id = %s
        """,
        [job.id],
    )
    await sql.execute("""
        INSERT INTO job_artifacts (job_id, attempt, role, position, filename, content_type, size,
            sha256, object_key, created_at, stored_at)
        SELECT id, 1, 'output', 7, 'p.png', 'image/png', 9, sha256('x'), 'jobs/' || id,
            completed_at, completed_at
        FROM generation_jobs
    """)
    await sql.execute("CREATE TABLE notes (job_id bigint PRIMARY KEY REFERENCES generation_jobs)")
    await sql.execute("INSERT INTO notes SELECT id FROM generation_jobs WHERE id % 2 = 0")
    await sql.execute("ANALYZE generation_jobs, job_artifacts, notes")
    with statements_sent() as sent:
        assert await store.detach_artifacts(MONTH, most=100)
        assert len((await store.remove_jobs(MONTH, BEGINNING, most=100)).job_ids) == 50
    batches = [one for one in sent if b"SKIP LOCKED" in one[0] and one[1].get("most") == 100]
    assert len(batches) == 2
    for statement in batches:
        for node in await plan_of(sql, statement, run=True):
            table = node.get("Relation Name")
            assert table is None or not table.startswith("pg_")
            assert node["Node Type"] != "Seq Scan", node
            assert node["Actual Rows"] * node["Actual Loops"] <= 100, node
