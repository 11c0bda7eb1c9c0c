"""What a graph starts from is brought to ComfyUI once, under its name there, or the job fails."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from generation_jobs.v1 import artifact_pb2, job_error_pb2, job_pb2
from generation_jobs.v1.job_pb2 import GenerationJob
from PIL import Image

from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service.client import JobServiceClient
from tests.worker.worker.asking import completed, ended, picture
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.lease_editor import LeaseEditor


def png(color: str) -> bytes:
    """A picture of several kilobytes."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(buffer, "PNG")
    image = Image.open(buffer)
    image.paste(color, (0, 0, 32, 48))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def inverted(name: str, prefix: str = "inverted") -> dict[str, Any]:
    return {
        "load": {"class_type": "LoadImage", "inputs": {"image": f"input://{name}"}},
        "invert": {"class_type": "ImageInvert", "inputs": {"image": ["load", 0]}},
        "save": {
            "class_type": "SaveImage",
            "inputs": {"images": ["invert", 0], "filename_prefix": prefix},
        },
    }


@pytest.fixture
def input_folder(tmp_path: Path) -> Path:
    """ComfyUI's input directory."""
    return tmp_path / "comfyui-input"


@pytest.fixture
async def simulator(input_folder: Path) -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(input_directory=input_folder)) as running:
        yield running


@pytest.fixture
async def leases(leases: LeaseEditor, start_worker: StartWorker) -> LeaseEditor:
    """With a worker behind, and two inputs in every lease."""
    leases.inputs = {"face": png("red"), "other": png("blue")}
    start_worker(job_service=leases.address)
    return leases


async def run(jobs: JobServiceClient) -> GenerationJob:
    return await completed(jobs, (await jobs.create_job(picture())).id)


async def fail(jobs: JobServiceClient) -> job_error_pb2.JobError:
    """The error of a job, which must have ended at its first attempt."""
    job = await ended(jobs, (await jobs.create_job(picture())).id)
    assert (job.status, job.attempt) == (job_pb2.JOB_STATUS_FAILED, 1), job
    return job.error


async def test_an_input_is_read_uploaded_and_loaded(
    jobs: JobServiceClient, leases: LeaseEditor, input_folder: Path, tmp_path: Path
) -> None:
    leases.graph = inverted("face")
    job = await run(jobs)
    (uploaded,) = (path for path in input_folder.rglob("*") if path.is_file())
    assert uploaded.parent.name == "generation-jobs"
    assert uploaded.read_bytes() == leases.inputs["face"]
    assert leases.reads == {"face": 1}
    (made,) = (a for a in job.artifacts if a.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT)
    await jobs.download(made.id, tmp_path / "made.png")
    with Image.open(tmp_path / "made.png") as image:
        assert image.getpixel((5, 5)) == (0, 255, 255)


async def test_what_comfyui_has_is_not_sent_again(
    jobs: JobServiceClient, leases: LeaseEditor
) -> None:
    for prefix in ("one", "two"):
        leases.graph = inverted("face", prefix)
        await run(jobs)
    # The same content under another name is the same file.
    leases.inputs = {"renamed": leases.inputs["face"]}
    leases.graph = inverted("renamed", "three")
    await run(jobs)
    assert leases.reads == {"face": 1}


async def test_what_comfyui_has_lost_is_sent_once_more(
    jobs: JobServiceClient, leases: LeaseEditor, input_folder: Path
) -> None:
    leases.graph = inverted("face")
    await run(jobs)
    for path in input_folder.rglob("*.png"):
        path.unlink()
    await run(jobs)
    assert leases.reads == {"face": 2}


async def test_bytes_damaged_on_the_way_are_read_again(
    jobs: JobServiceClient, leases: LeaseEditor
) -> None:
    leases.graph = inverted("face")
    leases.damaged["face"] = 1
    await run(jobs)
    assert leases.reads == {"face": 2}


@pytest.mark.parametrize("how", ["lost", "damaged", "never had"])
async def test_an_input_that_cannot_be_had_ends_the_job(
    how: str, jobs: JobServiceClient, leases: LeaseEditor
) -> None:
    leases.graph = inverted("nobody" if how == "never had" else "face")
    if how == "lost":
        leases.lost.add("face")
    elif how == "damaged":
        leases.damaged["face"] = 1000
    error = await fail(jobs)
    assert error.code == job_error_pb2.ERROR_CODE_INPUT_MISSING
    assert not error.retryable
    assert (
        error.message
        == {
            "lost": "The input input://face is not there any more.",
            "damaged": "The content of the input input://face is damaged.",
            "never had": "The workflow names the input input://nobody, which the job has not.",
        }[how]
    )


async def test_a_file_that_is_no_picture_fails_in_its_node(
    jobs: JobServiceClient, leases: LeaseEditor
) -> None:
    leases.inputs = {"face": b"no picture"}
    leases.graph = inverted("face")
    error = await fail(jobs)
    assert error.code == job_error_pb2.ERROR_CODE_NODE_FAILED
    assert (error.node_id, error.exception_type) == ("load", "PIL.UnidentifiedImageError")
    assert "/" not in error.message
