"""Inputs go when no job refers to them and nobody has used them for long; no sooner."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from generation_jobs.v1 import job_pb2
from sqlalchemy import make_url

from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.artifacts.sweeper import Sweeper
from job_service.settings import Settings
from job_service.store.artifacts import ArtifactTable
from job_service.store.database import Database
from job_service.store.inputs import InputTable
from tests.inputs_protocol import InputClient, bind, picture, read_input
from tests.jobs_protocol import ProtocolClient, refused
from tests.service.test_delete_job import deletions
from tests.service_fixture import Sql, StoredFiles
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker

RETENTION = timedelta(hours=24)


@pytest.fixture
def inputs(channel: grpc.aio.Channel) -> InputClient:
    return InputClient(channel)


@pytest.fixture
async def database(service_settings: Settings) -> AsyncIterator[Database]:
    assert service_settings.database_url
    connected = Database(service_settings.database_url)
    yield connected
    await connected.close()


@pytest.fixture
def table(database: Database) -> InputTable:
    return InputTable(database, RETENTION)


@pytest.fixture
def sweeper(database: Database, table: InputTable, service_settings: Settings) -> Sweeper:
    return Sweeper(
        ArtifactTable(database),
        table,
        ObjectStoreOfArtifacts.from_url(service_settings.artifact_store),
    )


async def _unused_for(sql: Sql, hours: float) -> None:
    await sql.execute("UPDATE job_inputs SET last_used_at = now() - %s", [timedelta(hours=hours)])


async def _column(sql: Sql, query: str) -> list[Any]:
    return [row[0] for row in await (await sql.execute(query.encode())).fetchall()]


async def _left(sql: Sql) -> list[int]:
    return await _column(sql, "SELECT id FROM job_inputs ORDER BY id")


async def test_the_running_service_removes_what_was_long_unused(
    client: ProtocolClient, inputs: InputClient, sql: Sql, stored_files: StoredFiles
) -> None:
    await inputs.upload(picture())
    await _unused_for(sql, 25)
    job = await client.create()
    async with deletions(sql, "job_inputs", 1):
        await client.cancel(job.id)
        await client.delete(job.id)  # has the sweeper look soon
    assert stored_files() == []


async def test_an_input_is_kept_for_its_time_without_any_job(
    inputs: InputClient, sql: Sql, sweeper: Sweeper, stored_files: StoredFiles
) -> None:
    stored = await inputs.upload(picture())
    await _unused_for(sql, 23)
    await sweeper.inputs()
    assert await _left(sql) == [stored.id]

    await inputs.upload(picture())  # again: that is a use
    await sql.execute("UPDATE job_inputs SET last_used_at = last_used_at - interval '2 hours'")
    await sweeper.inputs()
    assert await _left(sql) == [stored.id]

    await _unused_for(sql, 24.1)
    await sweeper.inputs()
    assert await _left(sql) == []
    assert stored_files() == []


async def test_an_input_lives_as_long_as_the_job_that_was_created_with_it(
    client: ProtocolClient,
    channel: grpc.aio.Channel,
    inputs: InputClient,
    sql: Sql,
    sweeper: Sweeper,
) -> None:
    worker = ProtocolWorker(channel)
    worker.catalogues[0].node_classes.extend(["LoadImage", "SaveImage"])
    await worker.report_catalogue()
    graph = (
        '{"1": {"class_type": "LoadImage", "inputs": {"image": "input://image"}},'
        ' "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}}}'
    )
    stored = await inputs.upload(picture())
    await _unused_for(sql, 23.9)

    async def create(input_id: int) -> job_pb2.GenerationJob:
        return await client.create(
            checkpoint_model="",
            workflow_json=graph,
            inputs=[job_pb2.InputBinding(name="image", input_id=input_id)],
        )

    job = await create(stored.id)
    (used,) = await _column(sql, "SELECT last_used_at > now() - interval '1 hour' FROM job_inputs")
    assert used
    lease = await worker.lease_one()
    assert [(one.name, one.input) for one in lease.inputs] == [("image", stored)]
    assert b"".join((await read_input(worker, lease, stored.id))[1]) == picture()
    await worker.complete(lease, await worker.upload(lease, b"picture"))
    await _unused_for(sql, 1000)
    await sweeper.inputs()
    assert await _left(sql) == [stored.id]

    await client.delete(job.id)
    await _unused_for(sql, 1000)
    await sweeper.inputs()
    assert await _left(sql) == []
    error = await refused(create(stored.id))
    assert "job.inputs[0].input_id" in error.fields


async def test_an_input_stays_as_long_as_a_job_refers_to_it(
    client: ProtocolClient,
    inputs: InputClient,
    sql: Sql,
    sweeper: Sweeper,
    stored_files: StoredFiles,
) -> None:
    used, unused = await inputs.upload(picture()), await inputs.upload(picture(colour="red"))
    first, second = await client.create(), await client.create()
    await bind(sql, first.id, image=used.id)
    await bind(sql, second.id, mask=used.id)
    await _unused_for(sql, 1000)
    await sweeper.inputs()
    assert await _left(sql) == [used.id]
    assert unused.id not in await _left(sql)

    await client.cancel(first.id)
    await client.delete(first.id)
    await _unused_for(sql, 1000)
    await sweeper.inputs()
    assert await _left(sql) == [used.id]

    await client.cancel(second.id)  # ended jobs refer to it as well: they can be retried
    await _unused_for(sql, 1000)
    await sweeper.inputs()
    assert await _left(sql) == [used.id]

    await client.delete(second.id)
    await _unused_for(sql, 1000)
    await sweeper.inputs()
    assert await _left(sql) == []
    assert stored_files() == []


async def test_inputs_in_use_are_looked_up_once_in_their_time(
    client: ProtocolClient, inputs: InputClient, sql: Sql, sweeper: Sweeper
) -> None:
    stored = await inputs.upload(picture())
    await bind(sql, (await client.create()).id, image=stored.id)
    await _unused_for(sql, 1000)
    await sweeper.inputs()
    (looked_at,) = await _column(sql, "SELECT last_used_at FROM job_inputs")
    await sweeper.inputs()
    assert await _column(sql, "SELECT last_used_at FROM job_inputs") == [looked_at]


async def test_what_an_interrupted_sweep_left_is_removed_by_the_next(
    inputs: InputClient, sql: Sql, sweeper: Sweeper, stored_files: StoredFiles
) -> None:
    first = await inputs.upload(picture())
    # as a service leaves it that is killed after marking, before or after removing the object
    await sql.execute("UPDATE job_inputs SET removed_at = now()")
    again = await inputs.upload(picture())
    assert again.id != first.id
    assert len(stored_files()) == 2

    await sweeper.inputs()
    assert await _left(sql) == [again.id]
    assert len(stored_files()) == 1


async def test_resolving_finds_only_the_owners_stored_inputs(
    inputs: InputClient, sql: Sql, table: InputTable
) -> None:
    other = uuid4()
    mine = await inputs.upload(picture())
    theirs = await inputs.upload(picture(), user_id=str(other))
    half, gone = await inputs.upload(picture("BMP")), await inputs.upload(picture("GIF"))
    await sql.execute("UPDATE job_inputs SET stored_at = NULL WHERE id = %s", [half.id])
    await sql.execute("UPDATE job_inputs SET removed_at = now() WHERE id = %s", [gone.id])
    me = UUID(mine.user_id)

    ids = [mine.id, theirs.id, half.id, gone.id, 4711]
    found = await table.resolve([(me, one) for one in ids])
    assert set(found) == {(me, mine.id)}
    assert found[me, mine.id].filename == "picture.png"
    both = await table.resolve([(me, mine.id), (other, theirs.id), (other, mine.id)])
    assert set(both) == {(me, mine.id), (other, theirs.id)}
    assert await table.resolve([]) == {}


async def test_resolving_keeps_an_input_and_writes_only_when_it_must(
    inputs: InputClient, sql: Sql, table: InputTable, sweeper: Sweeper
) -> None:
    stored = await inputs.upload(picture())
    wanted = [(UUID(stored.user_id), stored.id)]
    versions = "SELECT xmin::text FROM job_inputs"
    before = await _column(sql, versions)
    await table.resolve(wanted)
    assert await _column(sql, versions) == before

    await _unused_for(sql, 1000)
    assert len(await table.resolve(wanted)) == 1
    await sweeper.inputs()
    assert await _left(sql) == [stored.id]


async def test_a_sweep_that_began_before_a_resolve_leaves_the_input_alone(
    inputs: InputClient, sql: Sql, table: InputTable, sweeper: Sweeper, database_url: str
) -> None:
    stored = await inputs.upload(picture())
    wanted = [(UUID(stored.user_id), stored.id)]
    await _unused_for(sql, 1000)
    plain = make_url(database_url).set(drivername="postgresql")
    async with (
        await psycopg.AsyncConnection.connect(plain.render_as_string(hide_password=False)) as other,
        asyncio.TaskGroup() as group,
    ):
        # Somebody holds the row, so that both wait or pass by, whoever comes first.
        await other.execute("SELECT FROM job_inputs FOR UPDATE")
        resolving = [group.create_task(table.resolve(wanted)) for _ in range(3)]
        await _waiting_for_locks(sql, 3)
        sweeping = group.create_task(sweeper.inputs())
        await sweeping
        await other.rollback()
    assert [len(task.result()) for task in resolving] == [1, 1, 1]
    await sweeper.inputs()
    assert await _left(sql) == [stored.id]


async def test_a_resolve_that_comes_during_a_sweep_finds_the_input_gone(
    inputs: InputClient, sql: Sql, table: InputTable, sweeper: Sweeper, database_url: str
) -> None:
    stored = await inputs.upload(picture())
    await _unused_for(sql, 1000)
    plain = make_url(database_url).set(drivername="postgresql")
    async with (
        await psycopg.AsyncConnection.connect(plain.render_as_string(hide_password=False)) as other,
        asyncio.TaskGroup() as group,
    ):
        await other.execute("UPDATE job_inputs SET removed_at = now()")  # what a sweep does
        resolving = group.create_task(table.resolve([(UUID(stored.user_id), stored.id)]))
        uploading = group.create_task(inputs.upload(picture()))
        await _waiting_for_locks(sql, 2)
        await other.commit()
    assert resolving.result() == {}
    await sweeper.inputs()
    assert await _left(sql) == [uploading.result().id]


async def _waiting_for_locks(sql: Sql, count: int) -> None:
    """Return once so many statements wait for a row."""
    async with asyncio.timeout(30):
        while (
            len(
                await _column(
                    sql,
                    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()",
                )
            )
            < count
        ):
            pass


async def test_many_inputs_are_swept_by_batches_through_the_indexes(
    client: ProtocolClient,
    sql: Sql,
    table: InputTable,
    sweeper: Sweeper,
) -> None:
    job = await client.create()
    await sql.execute("""
        INSERT INTO job_inputs (user_id, filename, content_type, size, sha256, width, height,
            object_key, stored_at, last_used_at)
        SELECT gen_random_uuid(), 'a.png', 'image/png', 1, decode(md5(n::text) || md5(n::text),
            'hex'), 1, 1, 'inputs/' || n, now(),
            CASE WHEN n <= 1000 THEN now() - interval '30 days' ELSE now() END
        FROM generate_series(1, 20000) AS n
    """)
    await sql.execute(
        """
        INSERT INTO generation_jobs (user_id, prompt, inputs)
        SELECT user_id, 'filler', jsonb_build_array(jsonb_build_object('input_id', n))
        FROM generation_jobs, generate_series(501, 1000) AS n WHERE generation_jobs.id = %s
        """,
        [job.id],
    )
    await sql.execute(
        """
        INSERT INTO generation_jobs (user_id, prompt)
        SELECT user_id, 'filler ' || n FROM generation_jobs, generate_series(1, 20000) AS n
        WHERE generation_jobs.id = %s
        """,
        [job.id],
    )
    await sql.execute("ANALYZE generation_jobs, job_inputs")
    await table.retire(most=1)
    with statements_sent() as sent:
        assert await table.retire(most=100)
    ((statement, parameters),) = sent
    # as the service's connections plan it
    await sql.execute("SET plan_cache_mode = force_generic_plan")
    await sql.execute("SET random_page_cost = 1.1")
    async with sql.transaction(force_rollback=True):
        cursor = await sql.execute(
            b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters, prepare=True
        )
        (rows,) = await cursor.fetchone() or ((),)
    while await sweeper.inputs():
        pass
    assert await _left(sql) == list(range(501, 20001))

    (looked_up,) = (
        node
        for node in _nodes(rows[0]["Plan"])
        if node.get("Index Name") == "generation_jobs_inputs"
    )
    assert looked_up["Actual Loops"] == 100
    for node in _nodes(rows[0]["Plan"]):
        assert (node["Node Type"], node.get("Relation Name")) != ("Seq Scan", "generation_jobs")
        assert node["Actual Rows"] <= 100, node


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
