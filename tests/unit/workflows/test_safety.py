"""Graphs reach neither files outside ComfyUI's folders, nor the network, nor a shell."""

import json
from typing import Any

import pytest

from job_service.workflows.graph import graph_of
from job_service.workflows.safety import SafetyRules, safety_problems
from tests.unit.workflows.object_info import INFO, SIGNATURES, object_info, signatures_of
from tests.unit.workflows.object_info import text_to_image as whole


def problems(class_type: str, rules: SafetyRules = SafetyRules(), **inputs: Any) -> list[str]:  # noqa: B008
    return found_in(class_type, inputs, rules)


def found_in(
    class_type: str,
    inputs: dict[str, Any],
    rules: SafetyRules = SafetyRules(),  # noqa: B008
) -> list[str]:
    nodes = {"1": {"class_type": class_type, "inputs": inputs}}
    graph = graph_of(json.loads(json.dumps(nodes)))
    return [str(each) for each in safety_problems(graph, rules, SIGNATURES)]


def test_an_ordinary_graph_passes() -> None:
    assert safety_problems(graph_of(whole()), SafetyRules(), SIGNATURES) == []
    assert safety_problems(graph_of(whole()), SafetyRules()) == []


@pytest.mark.parametrize(
    "class_type",
    [
        *("LoadImageOutput", "VHS_LoadVideoPath", "VHS_LoadImagesPath", "VHS_LoadImagePath"),
        *(
            "Load Image From Path",
            "LoadImageFromPath",
            "LoadImagesFromDirectory",
            "LoadImagesFromDir",
        ),
        *("Image Save", "SaveImageWithPath", "ImageSaveWithPath", "Save Text File", "SaveLoRA"),
        *("Load Text File", "LoadImageDataSetFromFolder", "SaveImageDataSetToFolder"),
        *(
            "PythonNode",
            "ExecutePython",
            "Evaluate Strings",
            "easy pythonExec",
            "Run Shell Command",
        ),
        *("CodeNode", "AnyNode", "EvalPy", "SubprocessNode"),
        *(
            "LoadImageFromUrl",
            "LoadImageFromURL",
            "Load Image From URL",
            "DownloadAndLoadFlorence2Model",
        ),
        *("HttpRequest", "Civitai_Loader", "UploadToS3", "SendEmailNode", "WebhookNode"),
        *(
            "OpenAIDalle3",
            "KlingTextToVideoNode",
            "FluxProUltraImageNode",
            "RecraftTextToImageNode",
        ),
        *("WanTextToVideoApi", "IdeogramV3", "GeminiNode", "LumaImageNode", "TripoTextToModelNode"),
        *("Veo3VideoGenerationNode", "StabilityStableImageUltraNode", "MinimaxTextToVideoNode"),
    ],
)
def test_classes_that_reach_out_are_denied(class_type: str) -> None:
    (found,) = problems(class_type)
    assert found.startswith('nodes["1"].class_type: the node class')
    assert "an operator may allow it" in found
    assert problems(class_type, SafetyRules(allow=(class_type,))) == []
    assert problems(class_type.swapcase())


def test_of_comfyuis_own_classes_only_these_are_denied() -> None:
    rules = SafetyRules()
    assert {name for name in INFO if rules.objection(name)} == {
        *("LoadImageOutput", "LoadLatent", "WebcamCapture"),
        *("LoadImageDataSetFromFolder", "LoadImageTextDataSetFromFolder", "LoadTrainingDataset"),
        *("SaveImageDataSetToFolder", "SaveImageTextDataSetToFolder", "SaveTrainingDataset"),
        "SaveLoRA",
    }


def test_an_installation_may_deny_and_allow() -> None:
    assert (
        "not allowed on this installation" in problems("KSampler", SafetyRules(deny=("ksam*",)))[0]
    )
    assert problems("KSampler", SafetyRules(deny=("*",), allow=("KSampler",))) == []
    only = SafetyRules(only=("KSampler", "Save*"))
    assert problems("KSampler", only) == problems("SaveImage", only) == []
    assert "not among those" in problems("VAEDecode", only)[0]
    assert problems("SaveLoRA", only), "the default list holds beside it"
    assert problems("LoadLatent", SafetyRules(denied_by_default={})) == []


PATHS = [
    *("../secret.png", "a/../../b.png", "..", "a/..", "..\\b", "/etc/passwd", "\\\\host\\share"),
    *("C:\\windows\\x.png", "c:x", "~/x.png", "~root/x", "$HOME/x.png", "x/${PATH}", "%APPDATA%/x"),
    *("a\\b.png", "a\nb", " /etc/passwd", "x" * 600, "../x.png [input]"),
]
ADDRESSES = [
    *("http://example.org/x.png", "HTTPS://example.org", "ftp://x/y", "file:///etc/passwd"),
    *("data:image/png;base64,AAAA", "s3://bucket/key", " http://x", "file:/etc/passwd"),
]


@pytest.mark.parametrize("value", PATHS + ADDRESSES)
@pytest.mark.parametrize(
    ("class_type", "name"),
    [
        *(("LoadImage", "image"), ("SaveImage", "filename_prefix"), ("X", "path"), ("X", "file")),
        *(("CheckpointLoaderSimple", "ckpt_name"), ("LoraLoader", "lora_name"), ("X", "directory")),
        *(("X", "output_dir"), ("X", "folder_path"), ("X", "subfolder"), ("X", "video")),
    ],
)
def test_paths_stay_in_comfyuis_folders(class_type: str, name: str, value: str) -> None:
    (found,) = found_in(class_type, {name: value})
    assert found.startswith(f'nodes["1"].inputs.{name}: ')
    assert found_in(class_type, {name: {"__value__": [{"deep": value}]}})


@pytest.mark.parametrize("value", ADDRESSES)
@pytest.mark.parametrize("name", ["url", "image_url", "webhook", "base_uri", "endpoint"])
def test_addresses_are_refused(name: str, value: str) -> None:
    assert "must not be an address (URL)" in found_in("X", {name: value})[0]


@pytest.mark.parametrize("value", PATHS + ADDRESSES)
def test_prompts_may_hold_anything(value: str) -> None:
    assert problems("CLIPTextEncode", text=value) == []
    assert problems("X", prompt=value, text_g=value, value=value) == []


@pytest.mark.parametrize(
    ("class_type", "inputs"),
    [
        ("CheckpointLoaderSimple", {"ckpt_name": "sdxl/base.safetensors"}),
        ("LoraLoader", {"lora_name": "a/b/c..d.safetensors"}),
        ("SaveImage", {"filename_prefix": "out/%date:yyyy-MM-dd%/%KSampler.seed%_%width%"}),
        ("SaveImage", {"filename_prefix": "100% mine"}),
        ("LoadImage", {"image": "input://my image"}),
        ("LoadImage", {"image": "a picture.png"}),
        ("KSampler", {"sampler_name": "euler"}),
    ],
)
def test_names_with_folders_stay_legal(class_type: str, inputs: dict[str, Any]) -> None:
    assert found_in(class_type, inputs) == []


def test_a_prefix_is_bounded() -> None:
    assert "at most 200 characters" in problems("SaveImage", filename_prefix="x" * 201)[0]


def test_what_a_comfyui_on_windows_lists_passes() -> None:
    info = object_info()
    info["LoraLoader"]["input"]["required"]["lora_name"][0] = ["sdxl\\ink.safetensors"]
    nodes = {"1": {"class_type": "LoraLoader", "inputs": {"lora_name": "sdxl\\ink.safetensors"}}}
    graph = graph_of(nodes)
    assert safety_problems(graph, SafetyRules(), signatures_of(info)) == []
    assert safety_problems(graph, SafetyRules(), SIGNATURES)
