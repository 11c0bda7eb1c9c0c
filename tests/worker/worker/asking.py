"""Jobs to ask for, and waiting for what becomes of them."""

import asyncio
from collections.abc import Callable
from typing import Any

from generation_jobs.v1 import job_pb2
from generation_jobs.v1.job_pb2 import GenerationJob

from comfy_worker.simulator.settings import DEFAULT_CHECKPOINTS
from comfy_worker.worker.upload_batches import MOST_BYTES
from job_service.client import JobServiceClient

SECONDS = 30


def picture(*, steps: int = 4, **fields: Any) -> GenerationJob:
    """A small text-to-image job."""
    return GenerationJob(
        **{
            "prompt": "a lighthouse at dawn",
            "checkpoint_model": DEFAULT_CHECKPOINTS[0],
            "width": 64,
            "height": 96,
            "sampler": job_pb2.Sampler(steps=steps),
            **fields,
        }
    )


def large_video() -> dict[str, Any]:
    """A graph that makes a file which a worker does not keep in memory."""
    video = {"filename_prefix": "clip", "fps": 2.0, "least_bytes": MOST_BYTES + 1}
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 32, "height": 24, "batch_size": 2, "color": 7},
        },
        "2": {"class_type": "SimulatedVideo", "inputs": {"images": ["1", 0], **video}},
    }


async def until(
    jobs: JobServiceClient, job_id: int, condition: Callable[[GenerationJob], bool]
) -> GenerationJob:
    """Watch a job until it fulfils ``condition``."""
    watch = jobs.watch(job_id)
    try:
        async with asyncio.timeout(SECONDS):
            async for message in watch:
                if condition(message.job):
                    return message.job
    finally:
        await watch.aclose()
    raise AssertionError(f"job {job_id} came to rest otherwise: {message.job}")


async def ended(jobs: JobServiceClient, job_id: int) -> GenerationJob:
    """Watch a job until it rests, and return all of it."""
    terminal = {
        job_pb2.JOB_STATUS_COMPLETED,
        job_pb2.JOB_STATUS_FAILED,
        job_pb2.JOB_STATUS_CANCELLED,
    }
    await until(jobs, job_id, lambda job: job.status in terminal)
    return await jobs.get_job(job_id)


async def completed(jobs: JobServiceClient, job_id: int) -> GenerationJob:
    """Watch a job until it rests, and return all of it, which must be COMPLETED."""
    job = await ended(jobs, job_id)
    assert job.status == job_pb2.JOB_STATUS_COMPLETED, job
    return job
