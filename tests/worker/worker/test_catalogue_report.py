"""What a ComfyUI offers reaches the service: lists, limits and the signatures of its classes."""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import Catalogue, ServerInfo, node_signatures_of
from comfy_worker.comfyui.catalogue import catalogue_of
from comfy_worker.worker.catalogue_report import LARGEST_SIGNATURES, backend_catalogue

RECORDINGS = Path(__file__).parents[2] / "recordings"
INFO = ServerInfo("0.8.0", "cuda:0", 24 * 2**30, interrupts_by_id=True)
SMALL = Catalogue(("a",), (), (), ("euler",), ("normal",), ("KSampler",), 16384, None)


def recorded(version: str) -> Any:
    return json.loads(gzip.decompress((RECORDINGS / f"object_info_{version}.json.gz").read_bytes()))


def told_of(object_info: dict[str, Any]) -> pb.BackendCatalogue:
    return backend_catalogue("gpu", catalogue_of(object_info), INFO)


def node(**inputs: Any) -> dict[str, Any]:
    return {"input": {"required": inputs}, "output": ["IMAGE"], "output_node": False}


def signed(catalogue: pb.BackendCatalogue, class_type: str) -> dict[str, pb.NodeInputSignature]:
    (found,) = [each for each in catalogue.node_signatures if each.class_type == class_type]
    return {each.name: each for each in found.inputs}


def test_a_catalogue_has_a_digest_of_what_is_in_it() -> None:
    told = backend_catalogue("gpu", SMALL, INFO)
    assert (told.backend, list(told.checkpoints), told.max_dimension) == ("gpu", ["a"], 16384)
    assert (told.max_batch_size, told.device_memory) == (0, 24 * 2**30)
    assert len(told.digest) == 64
    assert told.digest == backend_catalogue("gpu", SMALL, INFO).digest
    other = dataclasses.replace(SMALL, checkpoints=("a", "b"))
    assert told.digest != backend_catalogue("gpu", other, INFO).digest


def test_the_digest_changes_with_the_signatures() -> None:
    narrow = {"Blur": node(radius=["INT", {"min": 1, "max": 31}])}
    wide = {"Blur": node(radius=["INT", {"min": 1, "max": 63}])}
    assert told_of(narrow).digest != told_of(wide).digest


def test_a_whole_recorded_object_info_is_told_in_a_small_message() -> None:
    info = recorded("0.8.0")
    told = told_of(info)
    assert {each.class_type for each in told.node_signatures} == info.keys()
    assert told.ByteSize() < 200_000
    assert len({tuple(each.values) for each in told.choice_lists}) == len(told.choice_lists)

    sampler = signed(told, "KSampler")
    assert list(sampler) == [
        *("model", "seed", "steps", "cfg", "sampler_name", "scheduler"),
        *("positive", "negative", "latent_image", "denoise"),
    ]
    assert (sampler["seed"].type, sampler["seed"].maximum) == ("INT", 2.0**64)
    assert sampler["seed"].has_control_widget
    assert not sampler["steps"].has_control_widget
    assert not sampler["model"].is_widget
    assert "euler" in told.choice_lists[sampler["sampler_name"].choice_list].values
    assert signed(told, "LoadImage")["image"].is_upload
    assert not signed(told, "LoadImageOutput")["image"].is_upload, "a file of another job"
    saver = next(each for each in told.node_signatures if each.class_type == "SaveImage")
    assert saver.is_output_node


def test_both_spellings_of_choices_share_one_list() -> None:
    told = told_of(
        {
            "Old": node(mode=[["a", "b"], {}], size=[[1, 2.5, 3]]),
            "New": node(mode=["COMBO", {"options": ["a", "b"]}]),
        }
    )
    assert [list(each.values) for each in told.choice_lists] == [["a", "b"], ["1", "2.5", "3"]]
    assert signed(told, "Old")["mode"].choice_list == signed(told, "New")["mode"].choice_list
    assert signed(told, "Old")["mode"].type == "COMBO"


def test_what_is_no_list_of_choices_has_none() -> None:
    told = told_of(
        {
            "Odd": node(
                long=[[str(n) for n in range(5_001)]],
                several=["COMBO", {"options": ["a"], "multiselect": True}],
                elsewhere=["COMBO", {"remote": {"route": "/x"}}],
                objects=[[{"a": 1}]],
                linked=["STRING", {"forceInput": True}],
                number=["FLOAT", {"min": -(10**400), "max": True}],
            )
        }
    )
    inputs = signed(told, "Odd")
    assert not [name for name, each in inputs.items() if each.HasField("choice_list")]
    assert not inputs["linked"].is_widget
    assert not inputs["number"].HasField("minimum")
    assert not inputs["number"].HasField("maximum")


def test_what_is_not_of_the_usual_form_is_left_out() -> None:
    odd: dict[str, Any] = {"A": None, "B": {"input": [], "output": 3}, "C": node(x=[], y="INT")}
    told = told_of(odd)
    assert [(each.class_type, len(each.inputs)) for each in told.node_signatures] == [
        ("B", 0),
        ("C", 0),
    ]
    assert node_signatures_of({}).nodes == ()


def test_signatures_stay_under_two_mebibytes() -> None:
    info = recorded("0.8.0")
    for number in range(5):
        names = [f"{number}/{'x' * 120}{each}.safetensors" for each in range(4_900)]
        info[f"Loader{number}"] = node(name=[names])
    told = told_of(info)
    assert sum(each.ByteSize() for each in told.choice_lists) < LARGEST_SIGNATURES
    assert {each.class_type for each in told.node_signatures} == info.keys()
    assert told.ByteSize() < 2 * 1024 * 1024
    assert signed(told, "KSampler")["sampler_name"].HasField("choice_list")
    assert not signed(told, "Loader4")["name"].HasField("choice_list")

    many = {
        f"Class{n}": node(**{f"input{m}": ["INT", {}] for m in range(20)}) for n in range(9_000)
    }
    told = told_of(many)
    assert told.node_signatures
    assert len(told.node_signatures) < 9_000 == len(told.node_classes)
    assert sum(each.ByteSize() for each in told.node_signatures) < LARGEST_SIGNATURES
