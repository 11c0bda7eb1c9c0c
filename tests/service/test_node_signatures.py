"""What node classes take: stored once, apart from the catalogue, read when asked for."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.events.hub import Hub
from job_service.queue.fleet import Fleet
from job_service.queue.signature_cache import SignatureCache
from job_service.settings import Settings
from job_service.store.database import Database
from job_service.store.endings import EndingStore
from job_service.store.models import ModelStore
from job_service.store.node_signatures import NodeSignatureTable
from job_service.store.pauses import PauseStore
from job_service.store.route_keys import RouteKeys
from job_service.store.workers import WorkerStore
from tests.jobs_protocol import ProtocolClient, refused
from tests.service_fixture import Sql
from tests.statements_sent import statements_sent
from tests.worker_protocol import ProtocolWorker

TTL = timedelta(seconds=30)
LABEL = "comfyui"


def signatures(classes: int = 3, *, files: int = 2) -> pb.BackendCatalogue:
    """Node classes that each take a model file, a number and a link."""
    return pb.BackendCatalogue(
        choice_lists=[pb.ChoiceList(values=[f"model-{n}.safetensors" for n in range(files)])],
        node_signatures=[
            pb.NodeSignature(
                class_type=f"Node{n}",
                inputs=[
                    pb.NodeInputSignature(
                        name="file", type="COMBO", required=True, choice_list=0, is_widget=True
                    ),
                    pb.NodeInputSignature(name="steps", type="INT", minimum=1, maximum=10_000),
                    pb.NodeInputSignature(name="end", type="FLOAT", maximum=math.inf),
                    pb.NodeInputSignature(name="model", type="MODEL,CLIP", required=True),
                ],
                output_types=["MODEL", "*"],
                is_output_node=n == 0,
            )
            for n in range(classes)
        ],
    )


async def says(worker: ProtocolWorker, said: pb.BackendCatalogue, *, lease: bool = True) -> None:
    """Report a catalogue with these signatures, and show that the worker is alive."""
    for catalogue in worker.catalogues:
        del catalogue.node_signatures[:]
        del catalogue.choice_lists[:]
        catalogue.MergeFrom(said)
    await worker.report_catalogue()
    if lease:
        await worker.lease(wait=0)


@pytest.fixture
async def database(service_settings: Settings) -> AsyncIterator[Database]:
    assert service_settings.database_url
    connected = Database(service_settings.database_url)
    yield connected
    await connected.close()


@pytest.fixture
def fleet(database: Database) -> Fleet:
    """The fleet as another replica knows it, which has never heard of the worker."""
    return Fleet(
        Hub(),
        WorkerStore(database),
        EndingStore(database),
        RouteKeys(database),
        PauseStore(database),
        ModelStore(database, TTL),
        SignatureCache(NodeSignatureTable(database)),
        TTL,
    )


def _loads(sent: list[tuple[bytes, Any]]) -> int:
    """How many of these statements read signatures."""
    return sum(b"FROM node_signatures WHERE" in statement for statement, _ in sent)


async def _count(sql: Sql) -> int:
    (count,) = await (await sql.execute("SELECT count(*) FROM node_signatures")).fetchone() or (0,)
    return int(count)


async def test_what_a_live_worker_says_of_its_nodes_is_handed_out(
    worker: ProtocolWorker, fleet: Fleet
) -> None:
    said = signatures()
    await says(worker, said)

    assert await fleet.signatures_for(LABEL) == [said]
    assert await fleet.signatures_for("another") is None


async def test_who_says_nothing_or_is_not_there_is_left_out(
    worker: ProtocolWorker, fleet: Fleet, channel: grpc.aio.Channel, sql: Sql
) -> None:
    await worker.lease(wait=0)
    assert await fleet.signatures_for(LABEL) is None

    gone = ProtocolWorker(channel, "box-2")
    await says(gone, signatures())
    await sql.execute(
        "UPDATE workers SET last_beat_at = now() - interval '1 hour' WHERE name = 'box-2'"
    )
    fresh = Fleet(*_parts(fleet))
    assert await fresh.signatures_for(LABEL) is None


def _parts(fleet: Fleet) -> Any:
    return (
        fleet._hub, fleet._workers, fleet._endings, fleet._route_keys, fleet._pause_store,
        fleet._models, fleet._signatures, fleet._ttl,
    )  # fmt: skip


async def test_the_same_signatures_of_many_comfyuis_are_stored_once_and_loaded_once(
    channel: grpc.aio.Channel, sql: Sql, fleet: Fleet
) -> None:
    said = signatures(200)
    workers = [ProtocolWorker(channel, f"box-{n}", backends=("a", "b")) for n in range(5)]
    await asyncio.gather(*(says(worker, said) for worker in workers))
    assert await _count(sql) == 1

    with statements_sent() as sent:
        found = await asyncio.gather(*(fleet.signatures_for(LABEL) for _ in range(20)))
    assert all(one == [said] for one in found)
    assert _loads(sent) == 1


async def test_catalogues_are_read_without_signatures(
    worker: ProtocolWorker, sql: Sql, client: ProtocolClient
) -> None:
    await says(worker, signatures(1000, files=500))
    (size, kept) = await (
        await sql.execute(
            "SELECT length(content::text), content ?| ARRAY['node_signatures', 'choice_lists']"
            " FROM backend_catalogues"
        )
    ).fetchone() or (0, True)
    assert size < 500
    assert not kept

    with statements_sent() as sent:
        job = await client.create()
        assert (await worker.lease_one()).job_id == job.id
    assert _loads(sent) == 0


async def test_as_many_signatures_as_a_large_comfyui_has_fit(
    worker: ProtocolWorker, sql: Sql, fleet: Fleet
) -> None:
    said = signatures(10_000, files=10_000)
    assert 1_400_000 < said.ByteSize() < 3_000_000
    await says(worker, said)
    assert await fleet.signatures_for(LABEL) == [said]
    (stored,) = await (
        await sql.execute("SELECT octet_length(content) FROM node_signatures")
    ).fetchone() or (0,)
    assert stored < said.ByteSize() / 4


async def test_signatures_that_change_replace_the_old_ones_which_are_swept(
    worker: ProtocolWorker, sql: Sql, database: Database
) -> None:
    for said in (signatures(1), signatures(2), pb.BackendCatalogue(), signatures(3)):
        await says(worker, said)
    assert await _count(sql) == 3
    table = NodeSignatureTable(database)
    await table.sweep()
    assert await _count(sql) == 3  # they may be reported again at this moment
    await sql.execute("UPDATE node_signatures SET reported_at = now() - interval '2 hours'")
    await table.sweep()
    assert await _count(sql) == 1


async def test_little_is_kept_in_memory(
    channel: grpc.aio.Channel, database: Database, sql: Sql
) -> None:
    said = [signatures(100 + n) for n in range(4)]
    for n, one in enumerate(said):
        await says(ProtocolWorker(channel, f"box-{n}"), one)
    rows = await (
        await sql.execute("SELECT signatures_digest FROM backend_catalogues ORDER BY worker")
    ).fetchall()
    digests = [row[0] for row in rows]
    cache = SignatureCache(NodeSignatureTable(database), capacity=2 * said[3].ByteSize())

    assert await cache.get(digests) == said  # more than it keeps
    with statements_sent() as sent:
        assert await cache.get(digests[2:]) == said[2:]
    assert _loads(sent) == 0
    with statements_sent() as sent:
        assert await cache.get(digests[:1]) == said[:1]
        assert await cache.get([digests[0], bytes(32), digests[3]]) == [said[0], said[3]]
    assert _loads(sent) == 2


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("node_signatures[0].class_type", {"node_signatures": [pb.NodeSignature()]}),
        (
            "node_signatures[1].class_type",
            {"node_signatures": [pb.NodeSignature(class_type="A")] * 2},
        ),
        (
            "node_signatures[0].class_type",
            {"node_signatures": [pb.NodeSignature(class_type="A" * 256)]},
        ),
        ("node_signatures", {"node_signatures": [pb.NodeSignature(class_type="A")] * 20_001}),
        ("choice_lists", {"choice_lists": [pb.ChoiceList()] * 20_001}),
        ("choice_lists[0].values[1]", {"choice_lists": [pb.ChoiceList(values=["", "a" * 4097])]}),
        (
            "node_signatures[0].output_types",
            {"node_signatures": [pb.NodeSignature(class_type="A", output_types=["X"] * 1001)]},
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(
    worker: ProtocolWorker, sql: Sql, field: str, said: dict[str, Any]
) -> None:
    error = await refused(says(worker, pb.BackendCatalogue(**said)))
    assert error.status is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields == (f"catalogues[0].{field}",)
    assert await _count(sql) == 0


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("choice_list", {"choice_list": 0}),
        ("choice_list", {"choice_list": -1}),
        ("minimum", {"minimum": math.nan}),
        ("maximum", {"maximum": math.nan}),
        ("name", {"name": "n" * 256}),
        ("type", {"type": "t" * 4097}),
    ],
)
async def test_an_input_that_makes_no_sense_is_refused(
    worker: ProtocolWorker, field: str, said: dict[str, Any]
) -> None:
    one = pb.NodeSignature(class_type="A", inputs=[pb.NodeInputSignature(**said)])
    error = await refused(says(worker, pb.BackendCatalogue(node_signatures=[one])))
    assert error.fields == (f"catalogues[0].node_signatures[0].inputs[0].{field}",)
