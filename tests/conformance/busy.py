"""How long a ComfyUI needs for many prompts: posted straight, and through what drives it.

Straight means that all are in its queue at once, and nobody asks for more than the events that
say that they are done. The driver and the pair of services read each prompt's history beside
that, and the pair fetches, thumbnails and stores every picture, all while ComfyUI renders on.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import inf
from typing import Final
from uuid import uuid4

import aiohttp
from generation_jobs.v1 import job_pb2
from generation_jobs.v1.generation_job_service_pb2 import CreateJobRequest

from comfy_worker.comfyui import ComfyBackend, Graph, Succeeded
from job_service.client import JobServiceClient
from tests.conformance.targets import new_id
from tests.end_to_end.installation import rest

PROMPTS: Final = 200
AT_REST: Final = (
    job_pb2.JOB_STATUS_COMPLETED,
    job_pb2.JOB_STATUS_FAILED,
    job_pb2.JOB_STATUS_CANCELLED,
)
_DEPTH: Final = 2
#: Seconds for many jobs, on a machine that is slow and busy.
_LONGEST: Final = 300


def model_free(side: int = 512, *, seconds: float = 0.0) -> Graph:
    """A graph that needs no model; its colour and file name are new, so nothing is cached.

    ``seconds``: as long a wait as if a GPU rendered; only a ComfyUI with probe nodes can do it.
    """
    mark = uuid4()
    render = {
        "class_type": "ProbeSlow",
        "inputs": {
            "image": ["empty", 0],
            "steps": 1,
            "step_seconds": seconds,
            "preview": False,
            "nonce": mark.int % 2**53,
        },
    }
    return {
        "empty": {
            "class_type": "EmptyImage",
            "inputs": {
                "width": side,
                "height": side,
                "batch_size": 1,
                "color": mark.int % 0xFFFFFF,
            },
        },
        **({"render": render} if seconds else {}),
        "save": {
            "class_type": "SaveImage",
            "inputs": {
                "images": ["render" if seconds else "empty", 0],
                "filename_prefix": f"busy/{mark}",
            },
        },
    }


async def straight(url: str, graphs: Sequence[Graph]) -> float:
    """Seconds from the first POST to the end of the last prompt, all of them queued at once."""
    client_id = new_id()
    async with aiohttp.ClientSession(url) as http:
        socket = await http.ws_connect(f"/ws?clientId={client_id}", max_msg_size=0)
        begun = time.perf_counter()
        for graph in graphs:
            body = {"prompt": graph, "client_id": client_id}
            async with http.post("/prompt", json=body) as response:
                assert response.status == 200, await response.text()
        ended = 0
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                event = json.loads(message.data)
                ended += event["type"] == "executing" and event["data"]["node"] is None
            if ended == len(graphs):
                break
        taken = time.perf_counter() - begun
        await socket.close()
    return taken


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of either, round by round."""

    baseline: list[float]
    ours: list[float]

    @property
    def ratio(self) -> float:
        """Of the quickest rounds: other work on the machine only ever makes one longer."""
        return min(self.ours) / min(self.baseline)

    def __str__(self) -> str:
        rounds = zip(self.ours, self.baseline, strict=True)
        listed = ", ".join(f"{ours:.2f}/{baseline:.2f}" for ours, baseline in rounds)
        return f"{self.ratio:.3f} of posting them straight (seconds by round: {listed})"


async def compare(
    baseline: Callable[[], Awaitable[float]],
    ours: Callable[[], Awaitable[float]],
    *,
    rounds: int,
    aim: float = inf,
    seconds: float = 0.0,
) -> Comparison:
    """Measure both in turn, ``rounds`` times; while the ratio is above ``aim``, for ``seconds``."""
    compared = Comparison([], [])
    begun = time.perf_counter()
    while len(compared.ours) < rounds or (
        compared.ratio > aim and time.perf_counter() - begun < seconds
    ):
        compared.baseline.append(await baseline())
        compared.ours.append(await ours())
    return compared


async def by_driver(backend: ComfyBackend, graphs: Sequence[Graph]) -> float:
    """Seconds for the same, by the driver, with two prompts in ComfyUI at a time."""
    return await all_of(graphs, lambda graph: _run(backend, graph))


async def by_pair(client: JobServiceClient, graphs: Sequence[Graph]) -> float:
    """Seconds from the first creation until the last job is seen COMPLETED, pictures stored.

    One job is created and followed by itself, several by a call for all of them: as somebody does
    who has all of them at once.
    """
    jobs = [
        job_pb2.GenerationJob(prompt="one colour", workflow_json=json.dumps(graph))
        for graph in graphs
    ]
    begun = time.perf_counter()
    if len(jobs) == 1:
        ended = [await rest(client, (await client.create_job(jobs[0])).id)]
    else:
        ended = await _all_at_rest(client, await client.create_jobs(map(_request, jobs)))
    taken = time.perf_counter() - begun
    for job in ended:
        assert job.status == job_pb2.JOB_STATUS_COMPLETED, job
    return taken


def _request(job: job_pb2.GenerationJob) -> CreateJobRequest:
    return CreateJobRequest(job=job)


async def _all_at_rest(
    client: JobServiceClient, jobs: Iterable[job_pb2.GenerationJob]
) -> list[job_pb2.GenerationJob]:
    """The jobs once each has been seen to rest, all followed by one watch of those that do."""
    resting: dict[int, job_pb2.GenerationJob] = {}
    unseen = {job.id for job in jobs}
    watch = client.watch_jobs(job_pb2.JobFilter(ids=unseen, statuses=AT_REST))
    async with asyncio.timeout(_LONGEST), aclosing(watch):
        while unseen:
            message = await anext(watch)
            if message.HasField("job"):
                resting[message.job.id] = message.job
                unseen.discard(message.job.id)
    return list(resting.values())


async def all_of(graphs: Sequence[Graph], run: Callable[[Graph], Awaitable[None]]) -> float:
    """Seconds in which ``run`` gets done with all graphs, two at a time."""
    waiting = iter(graphs)

    async def slot() -> None:
        for graph in waiting:
            await run(graph)

    begun = time.perf_counter()
    await asyncio.gather(*(slot() for _ in range(_DEPTH)))
    return time.perf_counter() - begun


async def _run(backend: ComfyBackend, graph: Graph) -> None:
    outcome = await backend.run(new_id(), graph)
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.files
