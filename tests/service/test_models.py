"""ModelService: what workers offer, who offers it, and what is loaded."""

import asyncio
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import model_service_pb2 as pb
from generation_jobs.v1 import model_service_pb2_grpc, worker_service_pb2

from tests.jobs_protocol import ProtocolClient, refused
from tests.service_fixture import Sql
from tests.worker_protocol import CHECKPOINT, ProtocolWorker


@pytest.fixture
def models(channel: grpc.aio.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


async def listed(models: Any, **fields: Any) -> list[pb.Model]:
    return list((await models.ListModels(pb.ListModelsRequest(**fields), timeout=20)).models)


async def offering(worker: ProtocolWorker, *checkpoints: str, loras: tuple[str, ...] = ()) -> None:
    worker.offers(checkpoints, loras)
    await worker.report_catalogue()
    await worker.lease(wait=0)


async def test_models_are_listed_with_the_workers_that_offer_them(
    models: Any, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    assert await listed(models, active=True) == []
    other = ProtocolWorker(channel, "box-2")
    await offering(worker, "b.safetensors", "a.safetensors", loras=("film.safetensors",))
    await offering(other, "a.safetensors")

    found = await listed(models, active=True)

    assert [(one.type, one.name, list(one.workers)) for one in found] == [
        (pb.MODEL_TYPE_CHECKPOINT, "a.safetensors", ["box-1", "box-2"]),
        (pb.MODEL_TYPE_CHECKPOINT, "b.safetensors", ["box-1"]),
        (pb.MODEL_TYPE_LORA, "film.safetensors", ["box-1"]),
    ]
    assert all(one.active and one.created_at.seconds for one in found)


async def test_models_are_found_by_type_part_of_the_name_and_worker(
    models: Any, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    await offering(worker, "Dream.safetensors", "photo.safetensors", loras=("dreamy.pt",))
    await offering(ProtocolWorker(channel, "box-2"), "photo.safetensors")

    async def names(**fields: Any) -> list[str]:
        return [one.name for one in await listed(models, active=True, **fields)]

    assert await names(search="DREAM") == ["Dream.safetensors", "dreamy.pt"]
    assert await names(search="dream", type=pb.MODEL_TYPE_LORA) == ["dreamy.pt"]
    assert await names(worker="box-2") == ["photo.safetensors"]
    assert await names(search="%") == []


async def test_every_kind_that_a_job_can_name_is_listed(
    models: Any, worker: ProtocolWorker
) -> None:
    (catalogue,) = worker.catalogues
    catalogue.vaes.append("vae.safetensors")
    catalogue.samplers.extend(["euler", "heun"])
    catalogue.schedulers.append("normal")
    await worker.report_catalogue()
    await worker.lease(wait=0)

    assert [(one.type, one.name) for one in await listed(models, active=True)] == [
        (pb.MODEL_TYPE_CHECKPOINT, CHECKPOINT),
        (pb.MODEL_TYPE_SAMPLER, "euler"),
        (pb.MODEL_TYPE_SAMPLER, "heun"),
        (pb.MODEL_TYPE_SCHEDULER, "normal"),
        (pb.MODEL_TYPE_VAE, "vae.safetensors"),
    ]
    (scheduler,) = await listed(models, type=pb.MODEL_TYPE_SCHEDULER)
    assert (scheduler.name, list(scheduler.workers)) == ("normal", ["box-1"])


async def test_a_model_that_nobody_offers_any_more_is_kept_as_inactive(
    models: Any, worker: ProtocolWorker, sql: Sql
) -> None:
    await offering(worker, "old.safetensors")
    await offering(worker, "new.safetensors")
    active = {one.name: one.active for one in await listed(models, type=pb.MODEL_TYPE_CHECKPOINT)}
    assert active == {CHECKPOINT: False, "old.safetensors": False, "new.safetensors": True}
    await sql.execute("UPDATE workers SET last_beat_at = now() - interval '1 hour'")
    assert not await listed(models, active=True)


async def test_a_checkpoint_says_where_it_is_loaded(
    models: Any, client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    await worker.complete(await worker.lease_one())
    (checkpoint,) = await listed(models, search=CHECKPOINT)
    assert list(checkpoint.loaded_in) == ["box-1/gpu0"]


async def test_pages_hold_every_model_once(models: Any, worker: ProtocolWorker) -> None:
    await offering(worker, *(f"{n:03}.safetensors" for n in range(25)))
    names: list[str] = []
    token = ""
    while True:
        request = pb.ListModelsRequest(page_size=10, page_token=token, active=True)
        page = await models.ListModels(request, timeout=20)
        names += [one.name for one in page.models]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"{n:03}.safetensors" for n in range(25)]


async def test_a_refresh_reaches_the_held_heartbeat_at_once(
    models: Any, worker: ProtocolWorker
) -> None:
    held = asyncio.create_task(worker.beat(wait=10))
    await worker.beat()
    answer = await models.RefreshModels(pb.RefreshModelsRequest(), timeout=20)
    assert answer.workers_asked == 1
    async with asyncio.timeout(5):
        directives = list((await held).directives)
    assert directives == [worker_service_pb2.WORKER_DIRECTIVE_REFRESH_CATALOGUE]
    await worker.report_catalogue()
    assert not (await worker.beat()).directives


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"type": 77}, ["type"]),
        ({"search": "\0"}, ["search"]),
        ({"page_size": -1}, ["page_size"]),
        ({"page_token": "garbage"}, ["page_token"]),
        ({"page_token": "W10="}, ["page_token"]),
    ],
)
async def test_a_bad_request_names_its_fields(
    fields: dict[str, Any], wrong: list[str], models: Any
) -> None:
    error = await refused(models.ListModels(pb.ListModelsRequest(**fields), timeout=20))
    assert (error.status, list(error.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, wrong)
