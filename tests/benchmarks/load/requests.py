"""CreateJob requests as an ordinary application makes them."""

from typing import Final
from uuid import UUID, uuid4

from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from tests.benchmarks.load.job_text import NEGATIVE_PROMPT, PROMPT
from tests.worker_protocol import CHECKPOINT

_USERS: Final = 100


def create_request(number: int) -> pb.CreateJobRequest:
    """The request with this number: one of a hundred users, a request id of its own."""
    return pb.CreateJobRequest(
        request_id=str(uuid4()),
        job=job_pb2.GenerationJob(
            user_id=str(UUID(int=1 + number % _USERS)),
            prompt=PROMPT,
            negative_prompt=NEGATIVE_PROMPT,
            checkpoint_model=CHECKPOINT,
            width=832,
            height=1216,
            sampler=job_pb2.Sampler(seed=42, steps=28, cfg=5.5, sampler_name="euler"),
            labels={"app": "bench"},
        ),
    )
