"""The simulator's node classes are ComfyUI's, but for wordings and configured lists."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from comfy_worker.simulator import Simulator, SimulatorSettings
from tests.worker.simulator.client import Client
from tests.worker.simulator.replay import RECORDINGS

# The recording has the classes below and no others; it is cut to them, otherwise unchanged.
RECORDED: dict[str, Any] = json.loads((RECORDINGS / "object_info.json").read_text())
WORDINGS = ("tooltip", "description", "output_tooltips")


def without_wordings(value: Any) -> Any:
    """Replace texts for people by whether there is one: ours are our own."""
    if isinstance(value, dict):
        return {
            key: has_text(each) if key in WORDINGS else without_wordings(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [without_wordings(each) for each in value]
    return value, type(value).__name__


def has_text(value: Any) -> Any:
    return [bool(each) for each in value] if isinstance(value, list) else bool(value)


@pytest.fixture
async def bare_client() -> AsyncIterator[Client]:
    """A simulator without any model, as the recorded server was."""
    settings = SimulatorSettings(checkpoints=(), loras=(), vaes=(), probe_nodes=True)
    async with Simulator(settings) as simulator, Client(simulator.url) as client:
        yield client


@pytest.mark.parametrize("name", RECORDED)
async def test_a_class_is_declared_as_recorded(name: str, bare_client: Client) -> None:
    answer = await bare_client.get(f"/object_info/{name}")

    assert without_wordings(answer[name]) == without_wordings(RECORDED[name])


async def test_every_class_but_one_is_recorded(bare_client: Client) -> None:
    # SaveImageWebsocket comes as a file beside ComfyUI and was off on the recorded server.
    assert set(await bare_client.get("/object_info")) == {*RECORDED, "SaveImageWebsocket"}


async def test_an_unknown_class_answers_an_empty_object(bare_client: Client) -> None:
    assert await bare_client.get("/object_info/NoSuchNode") == {}


async def test_configured_models_are_listed(client: Client) -> None:
    info = await client.get("/object_info/CheckpointLoaderSimple")
    listed = info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]

    assert "sd_xl_base_1.0.safetensors" in listed
    assert await client.get("/models/checkpoints") == listed
    assert "loras" in await client.get("/models")
    assert await client.status("/models/nosuch") == 404


async def test_test_nodes_are_absent_unless_asked_for() -> None:
    async with Simulator() as simulator, Client(simulator.url) as client:
        assert await client.get("/object_info/ProbeSlow") == {}
