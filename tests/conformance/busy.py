"""How long a ComfyUI needs for many prompts: posted straight, and through what drives it.

Straight means that all are in its queue at once, and nobody asks for more than the events that
say that they are done. The driver and the pair of services read each prompt's history beside
that, and the pair fetches, thumbnails and stores every picture, all while ComfyUI renders on.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final
from uuid import uuid4

import aiohttp
from generation_jobs.v1 import job_pb2

from comfy_worker.comfyui import ComfyBackend, Graph, Succeeded
from job_service.client import JobServiceClient
from tests.conformance.targets import new_id
from tests.end_to_end.installation import rest

PROMPTS: Final = 200
_DEPTH: Final = 2


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
    """Seconds from the first CreateJob until the last job is seen COMPLETED, pictures stored."""
    begun = time.perf_counter()
    jobs = [
        await client.create_job(
            job_pb2.GenerationJob(prompt="one colour", workflow_json=json.dumps(graph))
        )
        for graph in graphs
    ]
    for job in jobs:
        ended = await rest(client, job.id)
        assert ended.status == job_pb2.JOB_STATUS_COMPLETED, ended
    return time.perf_counter() - begun


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
