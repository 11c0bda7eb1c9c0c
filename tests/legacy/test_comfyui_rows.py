"""What the ComfyUI API of the former system offered, row by row, with a worker and a ComfyUI."""

import asyncio
import io
from typing import Any

import grpc
from generation_jobs.v1 import artifact_pb2, job_pb2, model_service_pb2
from generation_jobs.v1 import generation_job_service_pb2 as pb
from google.protobuf import timestamp_pb2
from PIL import Image

from comfy_worker.simulator import Simulator
from comfy_worker.simulator.settings import DEFAULT_CHECKPOINTS, DEFAULT_LORAS
from job_service.client import JobServiceClient
from tests.jobs_protocol import CANCELLED, COMPLETED, ProtocolClient, in_an_hour, refused
from tests.service_fixture import Sql, StoredFiles
from tests.worker.worker.asking import SECONDS, completed, ended, picture
from tests.worker.worker.conftest import StartWorker
from tests.worker_protocol import ProtocolWorker

ANNA = "aaaaaaaa-0000-4000-8000-000000000001"


async def test_row_post_comfyui_generate(jobs: JobServiceClient, start_worker: StartWorker) -> None:
    start_worker()
    asked = await jobs.create_job(
        picture(
            negative_prompt="text",
            batch_size=2,
            lora_models=[job_pb2.Lora(name=DEFAULT_LORAS[0], strength_model=0.5)],
            sampler=job_pb2.Sampler(steps=2, cfg=7, sampler_name="euler", scheduler="normal"),
        )
    )
    done = await completed(jobs, asked.id)
    outputs = [one for one in done.artifacts if one.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT]
    assert len(outputs) == 2, "every picture of a batch is kept"
    assert done.comfyui_prompt_id
    assert done.params_json == "{}", "the caller's parameters are not overwritten"


async def test_row_get_list_and_delete_of_comfyui_requests(
    client: ProtocolClient, sql: Sql
) -> None:
    made = [await client.create(user_id=ANNA) for _ in range(3)]
    await client.create()
    await sql.execute(
        "UPDATE generation_jobs SET legacy_request_id = 17 WHERE id = %s", [made[0].id]
    )
    (found,) = (await client.list_jobs(filter=job_pb2.JobFilter(legacy_request_id=17))).jobs
    assert found.id == made[0].id

    wanted = job_pb2.JobFilter(
        user_id=ANNA,
        statuses=[job_pb2.JOB_STATUS_PENDING],
        created_after=timestamp_pb2.Timestamp(),
        created_before=in_an_hour(),
    )
    first = await client.list_jobs(filter=wanted, page_size=2, include_total=True)
    second = await client.list_jobs(filter=wanted, page_size=2, page_token=first.next_page_token)
    assert [job.id for job in (*first.jobs, *second.jobs)] == [job.id for job in made[::-1]]
    assert first.total == 3
    assert (await client.cancel(made[0].id)).status == CANCELLED


async def test_row_models_and_their_refresh(
    models: Any, jobs: JobServiceClient, start_worker: StartWorker
) -> None:
    start_worker()
    asked = await jobs.create_job(picture())
    await completed(jobs, asked.id)

    async def listed(**fields: Any) -> list[str]:
        request = model_service_pb2.ListModelsRequest(**fields)
        return [one.name for one in (await models.ListModels(request, timeout=20)).models]

    checkpoints = await listed(type=model_service_pb2.MODEL_TYPE_CHECKPOINT, active=True)
    assert sorted(checkpoints) == sorted(DEFAULT_CHECKPOINTS)
    word = DEFAULT_CHECKPOINTS[0].rpartition(".")[0].upper()
    assert DEFAULT_CHECKPOINTS[0] in await listed(search=word)
    assert sorted(await listed(type=model_service_pb2.MODEL_TYPE_LORA)) == sorted(DEFAULT_LORAS)
    answer = await models.RefreshModels(model_service_pb2.RefreshModelsRequest(), timeout=20)
    assert answer.workers_asked == 1


async def test_row_request_object_cancels_in_comfyui_too(
    jobs: JobServiceClient,
    client: ProtocolClient,
    start_worker: StartWorker,
    simulator: Simulator,
) -> None:
    hold = simulator.faults.hold(step=1)
    start_worker()
    asked = await jobs.create_job(picture(steps=50))
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    await client.cancel(asked.id, "no longer needed")
    hold.release()
    assert (await ended(jobs, asked.id)).status == CANCELLED
    # the ComfyUI is free for the next
    await completed(jobs, (await jobs.create_job(picture(steps=1))).id)


async def test_row_request_object_searches_and_deletes_with_files(
    jobs: JobServiceClient,
    client: ProtocolClient,
    start_worker: StartWorker,
    stored_files: StoredFiles,
) -> None:
    start_worker()
    asked = await jobs.create_job(picture(prompt="a red fox in the snow"))
    other = await jobs.create_job(
        picture(prompt="a fox that is red", checkpoint_model=DEFAULT_CHECKPOINTS[1])
    )
    for one in (asked, other):
        await completed(jobs, one.id)

    async def found(**conditions: Any) -> list[int]:
        page = await client.list_jobs(filter=job_pb2.JobFilter(**conditions))
        return [job.id for job in page.jobs]

    assert await found(search="fox red") == [other.id, asked.id]
    assert await found(search='"red fox"') == [asked.id]
    assert await found(search="fox -snow") == [other.id]
    assert await found(checkpoint_model=DEFAULT_CHECKPOINTS[0]) == [asked.id]
    before = len(stored_files())
    assert await client.delete(asked.id)
    async with asyncio.timeout(SECONDS):
        while len(stored_files()) > before / 2:
            await client.list_jobs(page_size=1)
    assert (await refused(client.get(asked.id))).status is grpc.StatusCode.NOT_FOUND


async def test_row_backend_choice(
    client: ProtocolClient, worker: ProtocolWorker, channel: grpc.aio.Channel
) -> None:
    mock = ProtocolWorker(channel, "mock")
    mock.offer.backend_labels.append("kerniegen")
    await mock.report_catalogue()
    wanted = await client.create(backend="kerniegen")
    usual = await client.create()
    assert (await mock.lease_one()).job_id == wanted.id
    assert await mock.lease(wait=0) == []
    assert (await worker.lease_one()).job_id == usual.id


async def test_row_thumbnails(
    jobs: JobServiceClient, client: ProtocolClient, start_worker: StartWorker
) -> None:
    start_worker()
    asked = await jobs.create_job(picture(width=832, height=1216))
    output, *thumbnails = (await completed(jobs, asked.id)).artifacts
    assert [one.thumbnail_size for one in thumbnails] == [150, 300, 600]
    for size in (150, 300, 600):
        artifact, chunks = await client.read(output.id, size)
        assert artifact.content_type == "image/webp"
        with Image.open(io.BytesIO(b"".join(chunks))) as image:
            assert image.format == "WEBP"
            assert max(image.size) == size
    unknown = pb.ReadArtifactRequest(artifact_id=output.id, thumbnail_size=151)
    call = client.stub.ReadArtifact(unknown, timeout=20)
    assert (await refused(call.read())).fields == ("thumbnail_size",)
    assert (await client.get(asked.id)).status == COMPLETED
