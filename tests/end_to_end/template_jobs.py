"""Jobs of the built-in templates, and what comes of them."""

import io
import json
from pathlib import Path
from typing import Any

from generation_jobs.v1 import artifact_pb2, job_pb2
from PIL import Image, ImageChops, ImageDraw, ImageStat

from comfy_worker.simulator import SimulatorSettings
from job_service.client import JobServiceClient
from job_service.workflows.builtin_templates import builtin_templates
from tests.end_to_end.installation import rest

MODELS = SimulatorSettings()
SIZE = (128, 192)
#: What a job gives besides prompt, size, inputs and checkpoint.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "controlnet": {"controlnet": MODELS.controlnets[0]},
    "upscale": {"scale": 1.5},
    "upscale-model": {"upscale_model": MODELS.upscale_models[0]},
}
#: Templates whose result has a size of its own.
GROWN = {"upscale": (192, 288)}


def a_picture() -> Image.Image:
    """A bright disc on a dark ground."""
    picture = Image.new("RGB", SIZE, (20, 30, 60))
    ImageDraw.Draw(picture).ellipse((24, 40, 104, 150), fill=(240, 200, 40))
    return picture


def a_mask() -> Image.Image:
    """The left half is to be painted anew."""
    mask = Image.new("RGB", SIZE, "black")
    ImageDraw.Draw(mask).rectangle((0, 0, SIZE[0] // 2, SIZE[1]), fill="white")
    return mask


async def upload_inputs(client: JobServiceClient, folder: Path) -> dict[str, int]:
    """Every input that a built-in template asks for; ids by name."""
    inputs = {}
    for name, picture in (("image", a_picture()), ("mask", a_mask()), ("control", a_picture())):
        picture.save(folder / f"{name}.png")
        inputs[name] = (await client.upload_input(folder / f"{name}.png")).id
    return inputs


def a_job(
    name: str, inputs: dict[str, int], checkpoint: str = MODELS.checkpoints[0]
) -> job_pb2.GenerationJob:
    """A job of a built-in template, with a value for everything that it asks for."""
    names = {parameter.name for parameter in builtin_templates()[name].parameters}
    job = job_pb2.GenerationJob(
        prompt="a lighthouse in a storm",
        template=job_pb2.TemplateRef(name=name, arguments_json=json.dumps(ARGUMENTS.get(name, {}))),
        inputs=[
            job_pb2.InputBinding(name=each, input_id=input_id)
            for each, input_id in inputs.items()
            if each in names
        ],
    )
    if "checkpoint_model" in names:
        job.checkpoint_model = checkpoint
    if "width" in names:
        job.width, job.height = SIZE
    if "steps" in names:
        job.sampler.steps = 2
    return job


async def results(client: JobServiceClient, job_id: int, folder: Path) -> list[Image.Image]:
    """The pictures of a job, which must complete."""
    job = await rest(client, job_id)
    assert job.status == job_pb2.JOB_STATUS_COMPLETED, job.error
    pictures = []
    for artifact in job.artifacts:
        if artifact.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT:
            file = folder / f"{artifact.id}.png"
            await client.download(artifact.id, file)
            pictures.append(Image.open(io.BytesIO(file.read_bytes())).convert("RGB"))
    return pictures


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures of one size, 0 to 255."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)
