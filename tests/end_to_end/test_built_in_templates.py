"""Every built-in template, from a client's call through both services to its pictures."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from generation_jobs.v1 import job_pb2
from PIL import Image

from job_service.workflows.builtin_templates import builtin_templates
from tests.end_to_end.installation import Installation, rest
from tests.end_to_end.template_jobs import (
    GROWN,
    MODELS,
    SIZE,
    a_job,
    a_picture,
    difference,
    results,
    upload_inputs,
)


async def test_every_built_in_template_runs_to_its_pictures(
    stack: AsyncExitStack, tmp_path: Path, database_url: str, subtests: pytest.Subtests
) -> None:
    here = Installation(stack, tmp_path, JOB_SERVICE_DATABASE_URL=database_url)
    client = await here.start()
    await here.worker("box", await here.simulator())
    inputs = await upload_inputs(client, tmp_path)
    assert inputs["control"] == inputs["image"]  # the same content is stored once

    ids = {name: (await client.create_job(a_job(name, inputs))).id for name in builtin_templates()}

    pictures: dict[str, Image.Image] = {}
    for name, job_id in ids.items():
        with subtests.test(name):
            (pictures[name],) = await results(client, job_id, tmp_path)
            if name != "upscale-model":
                assert pictures[name].size == GROWN.get(name, SIZE)
    with subtests.test("a picture made from another resembles it"):
        made = difference(pictures["image-to-image"], a_picture())
        drawn = difference(pictures["text-to-image"], a_picture())
        assert made < drawn
    with subtests.test("what is not masked stays"):
        right = (SIZE[0] // 2 + 16, 0, *SIZE)
        left = (0, 0, SIZE[0] // 2 - 16, SIZE[1])
        painted = pictures["inpaint"]
        assert difference(painted.crop(right), a_picture().crop(right)) < difference(
            painted.crop(left), a_picture().crop(left)
        )
    with subtests.test("an enlarged picture is the same picture"):
        small = pictures["upscale"].resize(SIZE)
        assert difference(small, a_picture()) < 10


async def test_a_graph_of_ones_own_with_a_large_seed_and_an_input(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    here = Installation(stack, tmp_path, JOB_SERVICE_DATABASE_URL=database_url)
    client = await here.start()
    simulator = await here.simulator()
    await here.worker("box", simulator)
    a_picture().save(tmp_path / "face.png")
    face = await client.upload_input(tmp_path / "face.png")
    seed = 2**64 - 1
    text = json.dumps(
        {
            "checkpoint": {
                "class_type": "CheckpointLoaderSimple",
                "inputs": {"ckpt_name": MODELS.checkpoints[0]},
            },
            "words": {
                "class_type": "CLIPTextEncode",
                "inputs": {"text": "input is ../../etc/passwd", "clip": ["checkpoint", 1]},
            },
            "face": {"class_type": "LoadImage", "inputs": {"image": "face"}},
            "latent": {
                "class_type": "VAEEncode",
                "inputs": {"pixels": ["face", 0], "vae": ["checkpoint", 2]},
            },
            "sampler": {
                "class_type": "KSampler",
                "inputs": {
                    "model": ["checkpoint", 0],
                    "positive": ["words", 0],
                    "negative": ["words", 0],
                    "latent_image": ["latent", 0],
                    "seed": seed,
                    "steps": 2,
                    "cfg": 1.0,
                    "sampler_name": "euler",
                    "scheduler": "normal",
                    "denoise": 0.5,
                },
            },
            "decode": {
                "class_type": "VAEDecode",
                "inputs": {"samples": ["sampler", 0], "vae": ["checkpoint", 2]},
            },
            "save": {
                "class_type": "SaveImage",
                "inputs": {"images": ["decode", 0], "filename_prefix": "mine/portrait"},
            },
        }
    )
    job = await client.create_job(
        job_pb2.GenerationJob(
            prompt="a portrait",
            workflow_json=text,
            inputs=[job_pb2.InputBinding(name="face", input_id=face.id)],
        )
    )
    assert job.checkpoint_model == MODELS.checkpoints[0]

    (picture,) = await results(client, job.id, tmp_path)

    assert picture.size == SIZE
    done = await rest(client, job.id)
    assert done.artifacts[0].filename.startswith("portrait")
    assert done.artifacts[0].node_id == "save"
    with Image.open(tmp_path / f"{done.artifacts[0].id}.png") as file:
        rendered = json.loads(file.info["prompt"])
    assert rendered["sampler"]["inputs"]["seed"] == seed
