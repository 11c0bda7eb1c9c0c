"""From the lease to the graph: what the service resolved, or the client wrote, is what runs."""

import json
from typing import Any

import pytest
from generation_jobs.v1 import job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import Graph
from comfy_worker.worker.recipe import UnknownRecipeError, graph_of

PROMPT_ID = "some-prompt-id"


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


def lease_of(job: job_pb2.GenerationJob) -> pb.Lease:
    return pb.Lease(prompt_id=PROMPT_ID, job=job)


def graph_from(nodes: Any, *, again: bool = False) -> Graph:
    """The graph of a lease that holds ``nodes``, an object or JSON text."""
    text = nodes if isinstance(nodes, str) else json.dumps(nodes)
    return graph_of(pb.Lease(prompt_id=PROMPT_ID, workflow_json=text), again=again)


def saving(prefix: Any, **more: Any) -> dict[str, Any]:
    return {"9": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix, **more}}}


def test_every_field_reaches_its_node() -> None:
    graph = graph_of(lease_of(stored_job()))
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
def test_a_lease_without_the_graph_of_its_recipe_is_refused(job: job_pb2.GenerationJob) -> None:
    with pytest.raises(UnknownRecipeError):
        graph_of(lease_of(job))


def test_the_graph_of_a_lease_counts_whatever_else_the_job_says() -> None:
    lease = pb.Lease(
        prompt_id=PROMPT_ID,
        job=stored_job(template=job_pb2.TemplateRef(name="x")),
        workflow_json=json.dumps({"1": {"class_type": "Anything"}}),
    )
    assert graph_of(lease) == {"1": {"class_type": "Anything"}}


@pytest.mark.parametrize(
    ("prefix", "moved"),
    [
        ("portraits/anna", "generation-jobs/some-prompt-id/portraits/anna"),
        ("", "generation-jobs/some-prompt-id/"),
        (7, "generation-jobs/some-prompt-id/7"),
        (["3", 0], ["3", 0]),
        (None, None),
        (True, True),
    ],
)
def test_what_a_graph_saves_goes_below_a_folder_of_the_attempt(prefix: Any, moved: Any) -> None:
    graph = graph_from(saving(prefix, quality=1.5))
    assert graph["9"]["inputs"] == {"filename_prefix": moved, "quality": 1.5}


def test_every_node_that_saves_is_moved_and_a_second_run_elsewhere() -> None:
    nodes = saving("a") | {"node": {"class_type": "Custom", "inputs": {"filename_prefix": "b"}}}
    first, second = graph_from(nodes), graph_from(nodes, again=True)
    prefixes = [
        node["inputs"]["filename_prefix"] for graph in (first, second) for node in graph.values()
    ]
    assert len(set(prefixes)) == 4
    assert all(prefix.startswith("generation-jobs/some-prompt-id") for prefix in prefixes)


@pytest.mark.parametrize("prefix", ["../x", "/etc/x", "a/../../x", "C:\\x", "~/x", "\\\\box\\x"])
def test_a_prefix_that_leads_away_stays_visible_to_the_driver(prefix: str) -> None:
    assert graph_from(saving(prefix))["9"]["inputs"]["filename_prefix"] == prefix


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "not an object"),
        ('{"1": 5}', "no class_type"),
        ('{"1": {"class_type": 5}}', "no class_type"),
        ('{"1": {"class_type": "A", "inputs": []}}', "not an object"),
        ('{"1": {"class_type": "A"}, "1": {"class_type": "B"}}', "'1' twice"),
        ('{"1": {"class_type": "A", "inputs": {"x": NaN}}}', "NaN"),
        ('{"1": {"class_type": "A", "inputs": {"x": -Infinity}}}', "-Infinity"),
        ("[" * 200_000, "too deeply"),
        ('{"1": {"class_type": "A", "inputs": {"x": ' + "9" * 5000 + "}}}", "cannot be read"),
    ],
)
def test_a_text_that_is_no_graph_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnknownRecipeError, match=reason):
        graph_from(text)
