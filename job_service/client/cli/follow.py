"""Waiting for a job in front of a person."""

import asyncio

from generation_jobs.v1.generation_job_service_pb2 import WatchJobResponse
from generation_jobs.v1.job_pb2 import GenerationJob

from job_service.client.cli import console
from job_service.client.cli.progress_display import ProgressDisplay
from job_service.client.client import JobServiceClient


async def follow(client: JobServiceClient, job_id: int, display: ProgressDisplay) -> GenerationJob:
    """Show the job until it rests; answer it as it is then, in view FULL.

    Ctrl-C stops the showing, never the job.
    """
    update = WatchJobResponse()
    try:
        with display:
            async for update in client.watch(job_id, on_interruption=display.interrupted):
                display.show(update)
    except asyncio.CancelledError:
        console.stderr().print(
            f"Job {job_id} goes on. 'genjobs watch {job_id}' follows it, "
            f"'genjobs cancel {job_id}' stops it.",
            soft_wrap=True,
        )
        raise
    return update.job
