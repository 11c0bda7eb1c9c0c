"""What the server has and can: node classes, models, system."""

import os
import platform
import sys
from typing import Any

from aiohttp import web

from comfy_worker.simulator.machinery import Machinery
from comfy_worker.simulator.websocket import SERVER_FEATURES

COMFYUI_VERSION = "0.8.0"
"""The version whose behaviour is simulated."""

MODEL_FOLDERS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models"),
    *("clip_vision", "style_models", "embeddings", "diffusers", "vae_approx", "controlnet"),
    *("gligen", "upscale_models", "latent_upscale_models", "custom_nodes", "hypernetworks"),
    *("photomaker", "classifiers", "model_patches", "audio_encoders"),
)
SIMULATED_VRAM = 24 * 1024**3


class InfoRoutes:
    """Handlers for /object_info, /models, /embeddings, /system_stats and /features."""

    def __init__(self, machinery: Machinery) -> None:
        self._machinery = machinery
        settings = machinery.settings
        self._folders: dict[str, tuple[str, ...]] = {
            **dict.fromkeys(MODEL_FOLDERS, ()),
            "checkpoints": settings.checkpoints,
            "loras": settings.loras,
            "vae": settings.vaes,
            "controlnet": settings.controlnets,
            "diffusion_models": settings.diffusion_models,
            "text_encoders": settings.text_encoders,
            "upscale_models": settings.upscale_models,
            "embeddings": settings.embeddings,
        }

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/object_info", self._object_info),
            web.get("/object_info/{class_type}", self._object_info_of),
            web.get("/models", self._models),
            web.get("/models/{folder}", self._models_in),
            web.get("/embeddings", self._embeddings),
            web.get("/extensions", self._extensions),
            web.get("/system_stats", self._system_stats),
            web.get("/features", self._features),
            web.get("/simulator/state", self._state),
        ]

    async def _object_info(self, request: web.Request) -> web.Response:
        options = self._machinery.options()
        classes = self._machinery.classes.items()
        return web.json_response({name: each.info(options) for name, each in classes})

    async def _object_info_of(self, request: web.Request) -> web.Response:
        name = request.match_info["class_type"]
        found = self._machinery.classes.get(name)
        options = self._machinery.options()
        return web.json_response({} if found is None else {name: found.info(options)})

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._folders))

    async def _models_in(self, request: web.Request) -> web.Response:
        names = self._folders.get(request.match_info["folder"])
        if names is None:
            return web.Response(status=404)
        return web.json_response(list(names))

    async def _embeddings(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._machinery.settings.embeddings))

    async def _extensions(self, request: web.Request) -> web.Response:
        return web.json_response([])

    async def _system_stats(self, request: web.Request) -> web.Response:
        page_size = os.sysconf("SC_PAGE_SIZE")
        device: dict[str, Any] = {
            "name": "cuda:0 Simulated GPU",
            "type": "cuda",
            "index": 0,
            "vram_total": SIMULATED_VRAM,
            "vram_free": SIMULATED_VRAM,
            "torch_vram_total": SIMULATED_VRAM,
            "torch_vram_free": SIMULATED_VRAM,
        }
        system: dict[str, Any] = {
            "os": sys.platform,
            "ram_total": os.sysconf("SC_PHYS_PAGES") * page_size,
            "ram_free": os.sysconf("SC_AVPHYS_PAGES") * page_size,
            "comfyui_version": self._machinery.faults.version or COMFYUI_VERSION,
            "required_frontend_version": "",
            "installed_templates_version": None,
            "required_templates_version": "",
            "python_version": platform.python_version(),
            "pytorch_version": "simulated",
            "embedded_python": False,
            "argv": ["comfy-simulator"],
        }
        return web.json_response({"system": system, "devices": [device]})

    async def _features(self, request: web.Request) -> web.Response:
        return web.json_response(SERVER_FEATURES)

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self._machinery.signals.snapshot())
