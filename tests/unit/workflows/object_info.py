"""Recorded ``/object_info`` answers, with some models in their lists."""

import copy
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from comfy_worker.comfyui import ServerInfo
from comfy_worker.comfyui.catalogue import catalogue_of
from comfy_worker.worker.catalogue_report import backend_catalogue
from job_service.workflows.signatures import NodeSignatures

RECORDINGS = Path(__file__).parents[2] / "recordings"
MODELS = {
    ("CheckpointLoaderSimple", "ckpt_name"): ["sdxl/base.safetensors", "sd15.safetensors"],
    ("LoraLoader", "lora_name"): ["styles/ink.safetensors", "detail.safetensors"],
    ("UNETLoader", "unet_name"): ["flux1-dev.safetensors"],
    ("DualCLIPLoader", "clip_name1"): ["clip_l.safetensors", "t5xxl_fp16.safetensors"],
    ("DualCLIPLoader", "clip_name2"): ["clip_l.safetensors", "t5xxl_fp16.safetensors"],
    ("TripleCLIPLoader", "clip_name1"): ["clip_g.safetensors"],
    ("TripleCLIPLoader", "clip_name2"): ["clip_l.safetensors"],
    ("TripleCLIPLoader", "clip_name3"): ["t5xxl_fp16.safetensors"],
    ("VAELoader", "vae_name"): ["ae.safetensors"],
    ("ControlNetLoader", "control_net_name"): ["canny.safetensors"],
    ("UpscaleModelLoader", "model_name"): ["4x.pth"],
}


@cache
def _recorded(version: str) -> str:
    path = RECORDINGS / f"object_info_{version}.json.gz"
    return gzip.decompress(path.read_bytes()).decode()


def object_info(version: str = "0.8.0") -> Any:
    """A whole answer of that ComfyUI, had it the models of ``MODELS``."""
    info = json.loads(_recorded(version))
    for (class_type, name), models in MODELS.items():
        if class_type not in info:  # the older answer lacks the upscale models
            continue
        spec = info[class_type]["input"]["required"][name]
        if isinstance(spec[0], list):
            spec[0] = models
        else:
            spec[1]["options"] = models
    return info


def signatures_of(*infos: Any) -> NodeSignatures:
    """What the service knows of ComfyUIs with these answers, through the worker's report."""
    server = ServerInfo("0.8.0", "cpu", 0, interrupts_by_id=True)
    return NodeSignatures.from_catalogues(
        backend_catalogue(str(number), catalogue_of(info), server)
        for number, info in enumerate(infos)
    )


INFO = object_info()
SIGNATURES = signatures_of(INFO)


def text_to_image() -> dict[str, Any]:
    """A graph that INFO's ComfyUI accepts; the caller's own copy."""
    return copy.deepcopy(_TEXT_TO_IMAGE)


_TEXT_TO_IMAGE: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a heron", "clip": ["1", 1]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
    "4": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 512, "height": 512, "batch_size": 1},
    },
    "5": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["3", 0],
            "latent_image": ["4", 0],
            "seed": 9007199254740993,
            "steps": 20,
            "cfg": 7.5,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        },
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
}
