"""What reaches ComfyUI of jobs whose every text is hostile: prompts as they are, nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import aiohttp
import pytest
from generation_jobs.v1.job_pb2 import GenerationJob, Lora, Sampler

from comfy_worker.comfyui.outputs import OutputFile
from comfy_worker.simulator import Simulator
from comfy_worker.worker.output_fetch import name_of
from job_service.client import JobServiceClient
from job_service.client.errors import JobServiceError
from tests.hostile_text import hostile_texts
from tests.service.injection.canaries import canaries
from tests.service_fixture import Sql
from tests.worker.worker.asking import completed, ended, picture
from tests.worker.worker.conftest import StartWorker

#: Inputs of nodes in which a person writes what they like.
FREE_TEXT: Final = {"text"}
GRAPH: Final[dict[str, Any]] = {
    "load": {"class_type": "LoadImage", "inputs": {"image": "HERE"}},
    "save": {
        "class_type": "SaveImage",
        "inputs": {"images": ["load", 0], "filename_prefix": "HERE"},
    },
}


@pytest.mark.parametrize(
    "every", [12, pytest.param(1, marks=[pytest.mark.heavy, pytest.mark.timeout(900)])]
)
async def test_prompts_arrive_as_they_are_and_nothing_else_arrives(
    jobs: JobServiceClient,
    start_worker: StartWorker,
    simulator: Simulator,
    sql: Sql,
    tmp_path: Path,
    every: int,
) -> None:
    worker = start_worker()
    async with canaries(tmp_path / "canary", sql) as untouched:
        await untouched.note()
        # Once that is done, it is known what the worker has.
        plain = await completed(jobs, (await jobs.create_job(picture())).id)
        asked = {plain.comfyui_prompt_id: plain.prompt}
        refused = 0
        for text in untouched.texts[::every]:
            for job in hostile_jobs(text):
                try:
                    stored = await jobs.create_job(job)
                except JobServiceError:
                    refused += 1
                    continue
                if stored.pending_detail:  # for what no ComfyUI has: it waits for ever
                    await jobs.cancel_job(stored.id)
                    continue
                done = await ended(jobs, stored.id)
                if done.comfyui_prompt_id:
                    asked[done.comfyui_prompt_id] = text
        graphs = await received(simulator)
        await untouched.assert_untouched()
    assert not worker.task.done()
    assert refused >= len(untouched.texts[::every])
    assert len(asked) >= len(untouched.texts[::every]) // 2
    for prompt_id, graph in graphs.items():
        for name, value in texts_in(graph):
            if name in FREE_TEXT:
                assert value in ("", asked[prompt_id])
            else:
                assert is_harmless(value), (name, value)
    await completed(jobs, (await jobs.create_job(picture())).id)


def hostile_jobs(text: str) -> Iterator[GenerationJob]:
    """Jobs with a text in every field that a graph is made of."""
    yield picture(steps=1, prompt=text, negative_prompt=text)
    yield picture(checkpoint_model=text)
    yield picture(lora_models=[Lora(name=text)])
    yield picture(sampler=Sampler(sampler_name=text, steps=1))
    yield picture(sampler=Sampler(scheduler=text, steps=1))
    yield picture(backend=text)
    for node, name in (("load", "image"), ("save", "filename_prefix")):
        graph = json.loads(json.dumps(GRAPH))
        graph[node]["inputs"][name] = text
        yield GenerationJob(prompt="x", workflow_json=json.dumps(graph))
    yield GenerationJob(prompt="x", workflow_json=json.dumps({text: GRAPH["load"]}))
    yield GenerationJob(
        prompt="x", workflow_json=json.dumps({"1": {"class_type": text, "inputs": {}}})
    )


async def received(simulator: Simulator) -> dict[str, Any]:
    """The graphs that the simulator was given, by prompt id."""
    async with aiohttp.ClientSession() as session, session.get(f"{simulator.url}/history") as said:
        history = await said.json()
    return {prompt_id: entry["prompt"][2] for prompt_id, entry in history.items()}


def texts_in(graph: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text in a graph that is no link, with the name of its input."""
    for node in graph.values():
        yield "class_type", node["class_type"]
        for name, value in node["inputs"].items():
            if isinstance(value, str):
                yield name, value


def test_what_comfyui_calls_its_files_names_no_folder() -> None:
    for text in hostile_texts():
        name = name_of(OutputFile("1", "images", text, "../..", "output"))
        assert not {"/", "\\"} & set(name), name
        assert len(name) <= 255


def is_harmless(value: str) -> bool:
    """Whether a text is a plain name, perhaps of a file in a folder."""
    path = PurePosixPath(value)
    return (
        value.isprintable()
        and "://" not in value
        and "\\" not in value
        and not path.is_absolute()
        and not PureWindowsPath(value).drive
        and ".." not in path.parts
    )
