"""A graph with an input, a batch, a large video and a text goes through real processes."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from generation_jobs.v1 import artifact_pb2, job_pb2
from generation_jobs.v1.artifact_pb2 import Artifact
from PIL import Image

from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service.client import JobServiceClient
from tests.end_to_end.installation import CHECKPOINT, Installation, rest
from tests.end_to_end.real_processes import RealProcess

VIDEO_BYTES: Final = 200 * 1024**2
MOST_GROWTH: Final = 64 * 1024**2
"""Chunks on their way, what the transport holds, eight pictures, what the allocator keeps."""


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def graph(count: int, video_bytes: int) -> str:
    """Variations of the input "start": saved one by one, as a video, and described in a text."""
    nodes = {
        "load": node("LoadImage", image="input://start"),
        "model": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "prompt": node("CLIPTextEncode", text="waves", clip=["model", 1]),
        "encode": node("VAEEncode", pixels=["load", 0], vae=["model", 2]),
        "repeat": node("RepeatLatentBatch", samples=["encode", 0], amount=count),
        "sampler": node(
            "KSampler",
            model=["model", 0],
            positive=["prompt", 0],
            negative=["prompt", 0],
            latent_image=["repeat", 0],
            seed=2**64 - 1,
            steps=1,
            cfg=1.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=0.6,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["model", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="batch/wave"),
        "video": node(
            "SimulatedVideo",
            images=["decode", 0],
            filename_prefix="video/waves",
            fps=4.0,
            least_bytes=video_bytes,
        ),
        "note": node("PreviewAny", source=f"{count} waves ✓"),
    }
    return json.dumps(nodes)


@pytest.fixture
async def running(database_url: str, tmp_path: Path) -> AsyncIterator["Running"]:
    async with AsyncExitStack() as stack:
        installation = Installation(stack, tmp_path, JOB_SERVICE_DATABASE_URL=database_url)
        client = await installation.start()
        settings = SimulatorSettings(
            step_seconds=0.01, load_seconds=0, output_directory=tmp_path / "output"
        )
        simulator = await stack.enter_async_context(Simulator(settings))
        worker = await installation.worker("box", simulator)
        yield Running(client, installation.service, worker, tmp_path)


class Running:
    """A job_service, a worker and a simulator, each but the last in a process of its own."""

    def __init__(
        self, client: JobServiceClient, service: RealProcess, worker: RealProcess, folder: Path
    ) -> None:
        self.client = client
        self.service = service
        self.worker = worker
        self.folder = folder

    async def run(self, workflow: str, input_id: int) -> job_pb2.GenerationJob:
        job = job_pb2.GenerationJob(
            prompt="waves",
            workflow_json=workflow,
            inputs=[job_pb2.InputBinding(name="start", input_id=input_id)],
        )
        created = await self.client.create_job(job)
        async with asyncio.timeout(90):
            done = await rest(self.client, created.id)
        assert done.status == job_pb2.JOB_STATUS_COMPLETED, done
        return await self.client.get_job(created.id)

    async def hash_of(self, artifact: Artifact) -> bytes:
        path = self.folder / f"{artifact.id}"
        await self.client.download(artifact.id, path)
        assert path.stat().st_size == artifact.size
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").digest()


@pytest.mark.heavy
async def test_a_batch_a_large_video_and_a_text_come_back_whole_in_bounded_memory(
    running: Running,
) -> None:
    start = running.folder / "start.png"
    Image.effect_noise((256, 192), 80).convert("RGB").save(start)
    uploaded = await running.client.upload_input(start)
    await running.run(graph(2, 0), uploaded.id)  # what it needs at all
    processes = {"job_service": running.service, "comfy_worker": running.worker}
    before = {name: process.memory() for name, process in processes.items()}

    job = await running.run(graph(8, VIDEO_BYTES), uploaded.id)

    outputs = [a for a in job.artifacts if a.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT]
    kinds = [(a.node_id, a.content_type) for a in outputs]
    assert sorted(kinds) == [
        ("note", "text/plain"),
        *[("save", "image/png")] * 8,
        ("video", "video/webm"),
    ]
    for artifact in outputs:
        assert await running.hash_of(artifact) == artifact.sha256, artifact
    by_node = {artifact.node_id: artifact for artifact in outputs}
    video, note = by_node["video"], by_node["note"]
    assert (video.size, video.width, video.height) == (VIDEO_BYTES, 256, 192)
    assert video.duration.ToTimedelta() == timedelta(seconds=2)
    made = list((running.folder / "output").rglob("waves_*.webm"))
    assert video.sha256 in {hashlib.sha256(path.read_bytes()).digest() for path in made}
    assert (running.folder / f"{note.id}").read_text() == "8 waves ✓"
    assert len({artifact.sha256 for artifact in outputs}) == len(outputs)
    for name, process in processes.items():
        growth = process.peak_memory() - before[name]
        assert growth < MOST_GROWTH, f"{name} grew by {growth / 1024**2:.0f} MiB"
