"""The simulator's node classes are ComfyUI's, but for wordings and configured lists."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from comfy_worker.simulator import Simulator, SimulatorSettings
from comfy_worker.simulator.nodes import node_classes
from tests.worker.simulator.client import Client
from tests.worker.simulator.replay import RECORDINGS

# The recording has the classes below and no others; it is cut to them, otherwise unchanged.
RECORDED: dict[str, Any] = json.loads((RECORDINGS / "object_info.json").read_text())
# The whole of it, without the texts for people.
WHOLE: dict[str, Any] = json.loads(
    gzip.decompress((RECORDINGS / "object_info_0.8.0.json.gz").read_bytes())
)
WORDINGS = ("tooltip", "description", "output_tooltips")
OWN_CLASSES = {"SimulatedAudio", "SimulatedMesh", "SimulatedVideo"}
CLASSES = node_classes(probes=True)


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


def stripped_of_wordings(value: Any) -> Any:
    """Leave texts for people out."""
    if isinstance(value, dict):
        return {
            key: stripped_of_wordings(each) for key, each in value.items() if key not in WORDINGS
        }
    if isinstance(value, list):
        return [stripped_of_wordings(each) for each in value]
    return value, type(value).__name__


def has_text(value: Any) -> Any:
    return [bool(each) for each in value] if isinstance(value, list) else bool(value)


@pytest.fixture
async def bare_client() -> AsyncIterator[Client]:
    """A simulator without any model, as the recorded server was."""
    settings = SimulatorSettings(
        checkpoints=(),
        loras=(),
        vaes=(),
        controlnets=(),
        diffusion_models=(),
        text_encoders=(),
        upscale_models=(),
        probe_nodes=True,
    )
    async with Simulator(settings) as simulator, Client(simulator.url) as client:
        yield client


@pytest.mark.parametrize("name", RECORDED)
async def test_a_class_is_declared_as_recorded(name: str, bare_client: Client) -> None:
    answer = await bare_client.get(f"/object_info/{name}")

    assert without_wordings(answer[name]) == without_wordings(RECORDED[name])


@pytest.mark.parametrize("name", sorted(CLASSES.keys() & WHOLE.keys()))
async def test_a_class_is_declared_as_recorded_but_for_wordings(
    name: str, bare_client: Client
) -> None:
    answer = await bare_client.get(f"/object_info/{name}")

    assert stripped_of_wordings(answer[name]) == stripped_of_wordings(WHOLE[name])


async def test_all_other_classes_are_known(bare_client: Client) -> None:
    # SaveImageWebsocket comes as a file beside ComfyUI and was off on the recorded server.
    served = set(await bare_client.get("/object_info"))
    assert served - WHOLE.keys() == {"SaveImageWebsocket", *OWN_CLASSES}


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
