"""LoRAs go behind the one model of a graph; what a graph loads decides where it can run."""

import pytest

from job_service.workflows.builtin_templates import builtin_templates
from job_service.workflows.graph import Graph, graph_of
from job_service.workflows.loras import Lora, with_loras
from job_service.workflows.needs import needs_of
from job_service.workflows.problems import InvalidWorkflowError
from job_service.workflows.structure import structure_problems
from tests.unit.workflows.object_info import SIGNATURES
from tests.unit.workflows.object_info import text_to_image as whole

LORAS = [Lora("styles/ink.safetensors", 0.8, 0.8), Lora("detail.safetensors", 1.0, 0.5)]


def refusal(graph: Graph) -> str:
    with pytest.raises(InvalidWorkflowError) as error:
        with_loras(graph, LORAS)
    (problem,) = error.value.problems
    assert problem.path == "lora_models"
    return problem.description


def test_a_chain_takes_the_place_of_model_and_text_encoder() -> None:
    graph = with_loras(graph_of(whole()), LORAS)
    assert structure_problems(graph, SIGNATURES) == []
    assert graph.nodes["lora_1"].inputs == {
        "model": ["1", 0],
        "clip": ["1", 1],
        "lora_name": "styles/ink.safetensors",
        "strength_model": 0.8,
        "strength_clip": 0.8,
    }
    assert graph.nodes["lora_2"].inputs["model"] == ["lora_1", 0]
    assert graph.nodes["lora_2"].inputs["clip"] == ["lora_1", 1]
    assert graph.nodes["5"].inputs["model"] == ["lora_2", 0]
    assert graph.nodes["2"].inputs["clip"] == graph.nodes["3"].inputs["clip"] == ["lora_2", 1]
    assert graph.nodes["6"].inputs["vae"] == ["1", 2]


def test_ids_that_are_taken_are_left_alone() -> None:
    nodes = whole()
    nodes["lora_1"] = nodes.pop("7")
    graph = with_loras(graph_of(nodes), LORAS[:1])
    assert graph.nodes["lora_1"].class_type == "SaveImage"
    assert graph.nodes["5"].inputs["model"] == ["lora_1_2", 0]


@pytest.mark.parametrize("name", ["flux", "sd3", "sdxl", "controlnet", "inpaint"])
def test_built_in_templates_with_a_model_take_loras(name: str) -> None:
    graph = with_loras(builtin_templates()[name].graph, LORAS)
    assert {"lora_1", "lora_2"} <= graph.nodes.keys()


def test_without_one_clear_model_there_is_no_guess() -> None:
    nodes = whole()
    nodes["8"] = {"class_type": "UNETLoader", "inputs": {"unet_name": "x"}}
    with_loras(graph_of(nodes), LORAS)  # nothing uses it
    nodes["9"] = {"class_type": "KSampler", "inputs": {"model": ["8", 0]}}
    assert 'uses 2 of them: nodes "1", "8"' in refusal(graph_of(nodes))
    assert "no diffusion model" in refusal(builtin_templates()["upscale"].graph)
    unclipped = whole()
    del unclipped["2"]["inputs"]["clip"], unclipped["3"]["inputs"]["clip"]
    assert "no text encoder" in refusal(graph_of(unclipped))
    assert with_loras(builtin_templates()["upscale"].graph, []).nodes


def test_needs_are_sorted_and_hold_each_name_once() -> None:
    needs = needs_of(with_loras(graph_of(whole()), [*LORAS, LORAS[0]]))
    assert needs.checkpoint == "sd15.safetensors"
    assert needs.loras == ("detail.safetensors", "styles/ink.safetensors")
    assert needs.node_classes == (
        *("CLIPTextEncode", "CheckpointLoaderSimple", "EmptyLatentImage", "KSampler"),
        *("LoraLoader", "SaveImage", "VAEDecode"),
    )
    reordered = graph_of(dict(reversed(whole().items())))
    assert needs_of(reordered) == needs_of(graph_of(whole()))
    assert needs_of(builtin_templates()["upscale"].graph).checkpoint == ""
