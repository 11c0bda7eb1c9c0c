"""Jobs with models that no live worker offers: they wait and say so, or are refused."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2, worker_service_pb2
from google.protobuf import field_mask_pb2

from job_service.settings import Settings, UnknownModels
from tests.jobs_protocol import PENDING, ProtocolClient, a_job, refused
from tests.statements_sent import statements_sent
from tests.worker_protocol import CHECKPOINT, ProtocolWorker

TYPO = "sdlx.safetensors"


@pytest.fixture
def service_settings(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    return Settings(
        database_url=database_url,
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        lease_ttl=timedelta(seconds=30),
        shutdown_grace=timedelta(seconds=2),
        unknown_models=getattr(request, "param", UnknownModels.WAIT),
    )


rejecting = pytest.mark.parametrize("service_settings", [UnknownModels.REJECT], indirect=True)


async def joins(
    worker: ProtocolWorker,
    *checkpoints: str,
    samplers: tuple[str, ...] = (),
    schedulers: tuple[str, ...] = (),
) -> None:
    """Have a worker be alive and offer these."""
    worker.offers(checkpoints or (CHECKPOINT,))
    catalogue: worker_service_pb2.BackendCatalogue
    for catalogue in worker.catalogues:
        catalogue.samplers.extend(samplers)
        catalogue.schedulers.extend(schedulers)
        catalogue.digest += "".join((*samplers, *schedulers))
    await worker.report_catalogue()
    await worker.lease(wait=0, free_slots=0)


async def test_a_job_with_an_unknown_checkpoint_waits_and_says_what_may_have_been_meant(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await joins(worker)

    job = await client.create(checkpoint_model=TYPO)

    assert job.status == PENDING
    assert job.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS
    assert job.pending_detail == (
        "No worker that takes jobs can run it; missing: checkpoint sdlx.safetensors"
        " (did you mean 'sdxl.safetensors'?)."
    )
    assert (await client.get(job.id)).pending_detail == job.pending_detail
    assert not (await client.list_jobs()).jobs[0].pending_detail

    await joins(worker, CHECKPOINT, TYPO)
    assert not (await client.get(job.id)).pending_detail
    assert (await worker.lease_one()).job_id == job.id


async def test_a_job_with_an_unknown_sampler_waits_for_a_worker_that_has_it(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    await joins(worker, samplers=("euler", "heun"), schedulers=("normal", "karras"))

    job = await client.create(
        sampler=job_pb2.Sampler(sampler_name="heunn", scheduler="karras", steps=4)
    )

    assert job.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS
    assert "sampler heunn (did you mean 'heun'?)" in job.pending_detail
    assert await worker.lease(wait=0) == []
    other = ProtocolWorker(channel, "box-2")
    await joins(other, samplers=("euler", "heunn"), schedulers=("normal", "karras"))
    assert await worker.lease(wait=0) == []
    assert [lease.job_id for lease in await other.lease()] == [job.id]


async def test_without_workers_nothing_is_unknown(client: ProtocolClient) -> None:
    job = await client.create(checkpoint_model=TYPO)
    assert job.pending_detail == "No worker that takes jobs can run it; missing: any worker."


@rejecting
async def test_a_rejecting_service_names_every_unknown_name_beside_all_else_that_is_wrong(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create(checkpoint_model=TYPO)  # nobody has said what there is
    await joins(worker, samplers=("euler",), schedulers=("normal",))
    wrong = a_job(
        checkpoint_model=TYPO,
        lora_models=[job_pb2.Lora(name="film")],
        sampler=job_pb2.Sampler(sampler_name="eulr", scheduler="normal", steps=0),
    )
    paths = [
        "job.sampler.steps",
        "job.checkpoint_model",
        "job.lora_models[0].name",
        "job.sampler.sampler_name",
    ]

    error = await refused(client.send(pb.CreateJobRequest(job=wrong)))

    assert (error.status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert sorted(error.fields) == sorted(paths)
    batch = pb.BatchCreateJobsRequest(
        requests=[pb.CreateJobRequest(job=a_job()), pb.CreateJobRequest(job=wrong)]
    )
    error = await refused(client.stub.BatchCreateJobs(batch, timeout=20))
    assert sorted(error.fields) == sorted(f"requests[1].{path}" for path in paths)
    assert len((await client.list_jobs()).jobs) == 1
    assert (await client.create()).pending_reason == job_pb2.PENDING_REASON_QUEUED


@rejecting
async def test_a_rejecting_service_refuses_an_update_to_an_unknown_name_only(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    early = await client.create(checkpoint_model=TYPO)
    await joins(worker)

    def update(path: str, **fields: Any) -> Any:
        request = pb.UpdateJobRequest(
            job=job_pb2.GenerationJob(id=early.id, **fields),
            update_mask=field_mask_pb2.FieldMask(paths=[path]),
        )
        return client.stub.UpdateJob(request, timeout=20)

    error = await refused(update("checkpoint_model", checkpoint_model="sdxxl.safetensors"))
    assert error.fields == ("job.checkpoint_model",)
    assert "did you mean 'sdxl.safetensors'?" in error.message
    assert (await update("width", width=64)).job.checkpoint_model == TYPO
    fixed = (await update("checkpoint_model", checkpoint_model=CHECKPOINT)).job
    assert fixed.pending_reason == job_pb2.PENDING_REASON_QUEUED


@rejecting
async def test_a_repeated_create_is_answered_though_its_model_has_gone(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await joins(worker)
    first = await client.create(request_id="order-1")
    batch = pb.BatchCreateJobsRequest(
        requests=[pb.CreateJobRequest(job=a_job(), request_id=f"order-{n}") for n in (1, 2)]
    )
    both = (await client.stub.BatchCreateJobs(batch, timeout=20)).jobs
    await joins(worker, "other.safetensors")

    assert (await client.create(request_id="order-1")).id == first.id
    again = (await client.stub.BatchCreateJobs(batch, timeout=20)).jobs
    assert [job.id for job in again] == [job.id for job in both]
    assert (await refused(client.create(request_id="order-1", width=64))).reason == (
        "REQUEST_ID_REUSED"
    )
    assert (await refused(client.create(request_id="order-3"))).reason == "INVALID_FIELDS"
    assert (await refused(client.create())).reason == "INVALID_FIELDS"


@pytest.mark.parametrize("service_settings", list(UnknownModels), indirect=True)
async def test_creating_asks_no_table_for_what_is_offered(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await joins(worker)
    await client.create()
    with statements_sent() as seen:
        for n in range(5):
            await client.create(prompt=f"picture {n}")
        await worker.lease(wait=0)  # a statement that is seen
    assert seen
    # What is known is looked up again after some seconds, however many jobs are created.
    assert len([text for text, _ in seen if b"backend_catalogues" in text]) <= 1
