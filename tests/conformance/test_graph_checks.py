"""What job_service's checks let pass, a genuine ComfyUI accepts.

Prompts are posted for validation only: those that are accepted are taken out of the queue, or
interrupted, at once.
"""

import asyncio
import copy
import json
import random
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from comfy_worker.comfyui import ServerInfo
from comfy_worker.comfyui.catalogue import catalogue_of
from comfy_worker.worker.catalogue_report import backend_catalogue
from job_service.workflows.builtin_templates import builtin_templates
from job_service.workflows.graph import parse
from job_service.workflows.parameters import Parameter, ParameterType
from job_service.workflows.preparation import prepare_template
from job_service.workflows.problems import InvalidWorkflowError
from job_service.workflows.safety import SafetyRules
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.structure import structure_problems
from tests.conformance.genuine import CHECKPOINT, GenuineServer

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]

_ROUNDS = 150


async def accepts(http: aiohttp.ClientSession, prompt: dict[str, Any]) -> bool:
    """Whether ComfyUI takes the prompt with all its outputs; nothing of it runs for long."""
    prompt_id = str(uuid4())
    # Behind everything else in the queue, so that it can be deleted before it starts.
    body = {"prompt": prompt, "prompt_id": prompt_id, "number": 1e9}
    async with http.post("/prompt", json=body) as response:
        answer = await response.json(content_type=None) if response.status < 500 else {}
        accepted = response.status == 200 and not answer.get("node_errors")
    if response.status == 200:
        await http.post("/queue", json={"delete": [prompt_id]})
        await http.post("/interrupt", json={"prompt_id": prompt_id})
    return accepted


async def signatures_of(http: aiohttp.ClientSession) -> NodeSignatures:
    async with http.get("/object_info") as response:
        catalogue = catalogue_of(await response.json())
    info = ServerInfo("0.3.75", "cpu", 0, interrupts_by_id=True)
    return NodeSignatures.from_catalogues([backend_catalogue("genuine", catalogue, info)])


@pytest.fixture
def drawn() -> random.Random:
    return random.Random(20261124)


def changed(prompt: dict[str, Any], drawn: random.Random) -> dict[str, Any]:
    """A good prompt with one or two inputs set to something else."""
    prompt = copy.deepcopy(prompt)
    for _ in range(drawn.randint(1, 2)):
        inputs = prompt[drawn.choice(sorted(prompt))]["inputs"]
        name = drawn.choice(sorted(inputs))
        match drawn.randrange(6):
            case 0:
                del inputs[name]
                return prompt
            case 1:
                inputs[name] = [drawn.choice([*sorted(prompt), "99"]), drawn.randrange(4)]
            case 2:
                inputs[name] = drawn.choice([-1, 0, 1, 7, 20_000, 2**63, 2**64, 0.5, 1.5, 20.0])
            case 3:
                inputs[name] = drawn.choice(["euler", "karras", "x", "", "5", CHECKPOINT])
            case 4:
                inputs[name] = drawn.choice([None, True, False, {"a": 1}])
            case _:
                inputs[name] = drawn.choice(["center", "lanczos", 64, 3.0])
    return prompt


async def test_what_the_structure_checks_pass_is_accepted(
    genuine_server: GenuineServer, drawn: random.Random
) -> None:
    good = json.loads(
        prepared("text-to-image", {}, (), None, checkpoint_model=CHECKPOINT) or pytest.fail("bad")
    )
    good["latent"]["inputs"] |= {"width": 64, "height": 64}
    good["sampler"]["inputs"]["steps"] = 1
    passed = 0
    async with asyncio.timeout(600), aiohttp.ClientSession(genuine_server.url) as http:
        known = await signatures_of(http)
        assert await accepts(http, good)
        for _ in range(_ROUNDS):
            prompt = changed(good, drawn)
            try:
                graph = parse(json.dumps(prompt))
            except InvalidWorkflowError:
                continue
            if not structure_problems(graph, known):
                passed += 1
                assert await accepts(http, prompt), prompt
    assert passed > 5


def value_for(parameter: Parameter, drawn: random.Random) -> Any:
    """A value for a parameter, mostly a fitting one."""
    match parameter.type:
        case ParameterType.STRING:
            return drawn.choice(["a heron", "", "/etc/passwd"])
        case ParameterType.INTEGER | ParameterType.SEED:
            return drawn.choice([1, 8, 64, 100, 20_000, 2**53 + 1])
        case ParameterType.NUMBER:
            return drawn.choice([0, 0.5, 1, 2.0, 7.5, 300])
        case ParameterType.BOOLEAN:
            return drawn.choice([True, False])
        case _:
            return drawn.choice([CHECKPOINT, "euler", "karras", "red", "lanczos", "default", "x"])


def prepared(
    name: str,
    arguments: dict[str, Any],
    inputs: tuple[str, ...],
    known: NodeSignatures | None,
    **fields: Any,
) -> str | None:
    """The graph of a built-in template as text; None when the values are refused."""
    try:
        return prepare_template(
            builtin_templates()[name],
            arguments=arguments,
            fields={"prompt": "a heron", **fields},
            inputs=inputs,
            loras=(),
            draw_seed=lambda: 7,
            rules=SafetyRules(),
            signatures=known,
        ).workflow_json
    except InvalidWorkflowError:
        return None


async def test_what_templates_give_is_accepted(
    genuine_server: GenuineServer, drawn: random.Random
) -> None:
    """Any built-in template, any values: accepted by ComfyUI, or refused before."""
    passed: set[str] = set()
    async with asyncio.timeout(600), aiohttp.ClientSession(genuine_server.url) as http:
        known = await signatures_of(http)
        (genuine_server.input_directory / "any.png").write_bytes(b"")
        for _ in range(_ROUNDS):
            name = drawn.choice(["text-to-image", "image-to-image", "inpaint", "upscale"])
            arguments: dict[str, Any] = {}
            fields: dict[str, Any] = {}
            inputs: list[str] = []
            for parameter in builtin_templates()[name].parameters:
                if parameter.type is ParameterType.INPUT:
                    inputs.append(parameter.name)
                elif parameter.name == "checkpoint_model":
                    fields[parameter.name] = CHECKPOINT
                elif drawn.randrange(5) == 0:
                    given = arguments if parameter.name in ARGUMENTS else fields
                    given[parameter.name] = value_for(parameter, drawn)
            text = prepared(name, arguments, tuple(inputs), known, **fields)
            if text is not None:
                passed.add(name)
                files = {f'"input://{each}"': '"any.png"' for each in inputs}
                for reference, file in files.items():
                    text = text.replace(reference, file)
                assert await accepts(http, json.loads(text)), text
    assert len(passed) == 4


ARGUMENTS = {"mask_channel", "grow_mask_by", "scale", "method"}
