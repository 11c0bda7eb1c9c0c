"""Files are fetched while the prompt still runs; what counts is the history at its end."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from generation_jobs.v1.job_pb2 import GenerationJob

from comfy_worker.simulator import Hold, Simulator, SimulatorSettings
from job_service.client import JobServiceClient
from tests.worker.comfyui.comfy_proxy import ComfyProxy
from tests.worker.worker.asking import completed, picture
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.lease_editor import LeaseEditor


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
async def simulator(output: Path) -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(
        step_seconds=0.002, load_seconds=0.0, probe_nodes=True, output_directory=output
    )
    async with Simulator(settings) as running:
        yield running
        running.faults.release_all()


@pytest.fixture
async def comfyui(simulator: Simulator) -> AsyncIterator[ComfyProxy]:
    async with ComfyProxy(simulator.url).serving() as proxy:
        yield proxy


@pytest.fixture
async def hold(
    simulator: Simulator, comfyui: ComfyProxy, leases: LeaseEditor, start_worker: StartWorker
) -> Hold:
    """Where a prompt waits that has saved one picture and will save another."""

    def node(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    leases.graph = {
        "1": node("EmptyImage", width=32, height=24, batch_size=1, color=0x336699),
        "2": node("SaveImage", images=["1", 0], filename_prefix="first"),
        "3": node("ProbeSlow", image=["1", 0], steps=3, step_seconds=0.0, preview=False, nonce=1),
        "4": node("ImageInvert", image=["3", 0]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="second"),
    }
    start_worker(job_service=leases.address, comfyui_urls=comfyui.url)
    return simulator.faults.hold(step=2)


def digests(job: GenerationJob) -> list[bytes]:
    """Of the pictures, not of their thumbnails."""
    return [each.sha256 for each in job.artifacts if not each.thumbnail_size]


def saved(output: Path) -> list[bytes]:
    return [hashlib.sha256(path.read_bytes()).digest() for path in sorted(output.rglob("*.png"))]


async def test_a_picture_is_fetched_while_the_next_is_made_and_not_again(
    jobs: JobServiceClient, comfyui: ComfyProxy, hold: Hold, output: Path
) -> None:
    asked = await jobs.create_job(picture())
    await hold.reached()
    await comfyui.asked_for("GET /view")
    hold.release()
    job = await completed(jobs, asked.id)

    assert len(job.artifacts) == 8
    assert digests(job) == saved(output)
    assert comfyui.requests["GET /view"] == 2


async def test_one_that_could_not_be_had_early_is_fetched_at_the_end(
    jobs: JobServiceClient, comfyui: ComfyProxy, hold: Hold, output: Path, simulator: Simulator
) -> None:
    simulator.faults.files_are_gone = True
    asked = await jobs.create_job(picture())
    await hold.reached()
    await comfyui.asked_for("GET /view")
    simulator.faults.files_are_gone = False
    hold.release()
    job = await completed(jobs, asked.id)

    assert digests(job) == saved(output)


async def test_what_was_only_told_of_is_no_result(
    jobs: JobServiceClient, comfyui: ComfyProxy, hold: Hold, output: Path
) -> None:
    asked = await jobs.create_job(picture())
    prompt_id = await hold.reached()
    await comfyui.asked_for("GET /view")
    other = output / "other.png"
    other.write_bytes(b"no picture of this prompt")
    told = {"images": [{"filename": other.name, "subfolder": "", "type": "output"}]}
    await comfyui.send_to_sockets(
        json.dumps(
            {"type": "executed", "data": {"node": "2", "output": told, "prompt_id": prompt_id}}
        )
    )
    await comfyui.asked_for("GET /view", times=2)
    other.unlink()
    hold.release()
    job = await completed(jobs, asked.id)

    assert digests(job) == saved(output)
