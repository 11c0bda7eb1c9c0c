"""A file is added to a ComfyUI: the job that waited for it runs."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2, model_service_pb2, model_service_pb2_grpc

from tests.end_to_end.installation import Installation, rest, submit

OLD = "brand_new_v1.safetensors"
NEW = "brand_new_v2.safetensors"


async def test_a_job_waits_for_a_model_until_a_refresh_finds_it(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    here = Installation(stack, tmp_path, JOB_SERVICE_DATABASE_URL=database_url)
    client = await here.start()
    simulator = await here.simulator()
    simulator.settings = replace(simulator.settings, checkpoints=(OLD,))
    await simulator.kill()
    await simulator.restart()
    await here.worker("box", simulator)
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(here.address))
    models = model_service_pb2_grpc.ModelServiceStub(channel)

    async def offered() -> dict[str, model_service_pb2.Model]:
        request = model_service_pb2.ListModelsRequest(active=True)
        return {one.name: one for one in (await models.ListModels(request)).models}

    await rest(client, await submit(client, steps=1, checkpoint_model=OLD))  # the worker is there

    job_id = await submit(client, steps=2, checkpoint_model=NEW)

    waiting = (await client.stub.GetJob(pb.GetJobRequest(id=job_id))).job
    assert waiting.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS
    assert waiting.pending_detail == (
        f"No worker that takes jobs can run it; missing: checkpoint {NEW} (did you mean {OLD!r}?)."
    )
    assert NEW not in await offered()

    simulator.settings = replace(simulator.settings, checkpoints=(OLD, NEW))
    await simulator.kill()
    await simulator.restart()
    asked = await models.RefreshModels(model_service_pb2.RefreshModelsRequest())
    assert asked.workers_asked == 1

    assert (await rest(client, job_id)).status == job_pb2.JOB_STATUS_COMPLETED
    found = (await offered())[NEW]
    assert list(found.workers) == ["box"]
    assert list(found.loaded_in) == ["box/gpu0"]
    assert {"euler", "normal"} <= set(await offered())
