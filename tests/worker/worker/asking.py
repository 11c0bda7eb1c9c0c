"""Jobs to ask for, and waiting for what becomes of them."""

import asyncio
from collections.abc import Callable
from typing import Any

from generation_jobs.v1 import job_pb2
from generation_jobs.v1.job_pb2 import GenerationJob

from comfy_worker.simulator.settings import DEFAULT_CHECKPOINTS
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
