"""From the stored job to the graph: what the service resolved is what ComfyUI is told."""

from typing import Any

import pytest
from generation_jobs.v1 import job_pb2

from comfy_worker.worker.recipe import UnknownRecipeError, graph_of


def stored_job(**fields: Any) -> job_pb2.GenerationJob:
    """A job as job_service hands it out, every default resolved."""
    job = job_pb2.GenerationJob(
        prompt="a lighthouse",
        negative_prompt="blurry",
        checkpoint_model="sd.safetensors",
        lora_models=[
            job_pb2.Lora(name="first", strength_model=0.8, strength_clip=0.5),
            job_pb2.Lora(name="second", strength_model=-1, strength_clip=0),
        ],
        width=832,
        height=1216,
        batch_size=2,
        sampler=job_pb2.Sampler(
            seed=2**63 - 1,
            steps=28,
            cfg=5.5,
            sampler_name="euler",
            scheduler="normal",
            denoise=0.75,
        ),
    )
    job.MergeFrom(job_pb2.GenerationJob(**fields))
    return job


def test_every_field_reaches_its_node() -> None:
    graph = graph_of(stored_job(), "some-prompt-id")
    inputs = {node_id: node["inputs"] for node_id, node in graph.items()}
    assert inputs["checkpoint"] == {"ckpt_name": "sd.safetensors"}
    assert inputs["positive"]["text"] == "a lighthouse"
    assert inputs["negative"]["text"] == "blurry"
    assert (inputs["lora_1"]["lora_name"], inputs["lora_1"]["strength_clip"]) == ("first", 0.5)
    assert inputs["lora_2"]["strength_model"] == -1
    assert inputs["latent"] == {"width": 832, "height": 1216, "batch_size": 2}
    assert inputs["sampler"]["seed"] == 2**63 - 1
    assert (inputs["sampler"]["steps"], inputs["sampler"]["cfg"]) == (28, 5.5)
    assert (inputs["sampler"]["sampler_name"], inputs["sampler"]["scheduler"]) == (
        "euler",
        "normal",
    )
    assert inputs["sampler"]["denoise"] == 0.75
    assert inputs["save"]["filename_prefix"] == "generation-jobs/some-prompt-id"


@pytest.mark.parametrize(
    "job",
    [
        stored_job(workflow_json="{}"),
        stored_job(template=job_pb2.TemplateRef(name="x")),
        job_pb2.GenerationJob(prompt="no checkpoint"),
    ],
)
def test_recipes_this_version_does_not_know_are_refused(job: job_pb2.GenerationJob) -> None:
    with pytest.raises(UnknownRecipeError):
        graph_of(job, "p")
