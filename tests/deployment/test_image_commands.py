"""Every command of the images and the composition, run outside containers.

The images' virtual environments are built from their lock files by the Dockerfile's own lines, in
another folder; then what the composition starts is started, in its order and environment, on
addresses of this machine, and a picture is made.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import make_url

from comfy_worker.simulator import SimulatorSettings
from job_service.embedded_postgres.cluster import find_programs
from tests.deployment import composition
from tests.deployment.dockerfile import Stage, stages
from tests.end_to_end.real_processes import free_address

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

_ADDRESS: Final = re.compile(r"\b(0\.0\.0\.0|127\.0\.0\.1|job-service|simulator):(\d+)\b")
#: Makes a user and folders in the root; of an image, it can be run nowhere else.
_ONLY_IN_AN_IMAGE: Final = "useradd "


class OutsideContainers:
    """What paths and addresses of the containers are here."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._folder = folder
        self._database_url = make_url(database_url).set(drivername="postgresql")
        self._ports: dict[str, str] = {}
        for name in ("data", "scratch"):
            (folder / name).mkdir(exist_ok=True)

    def text(self, text: str) -> str:
        """A text of the files, with paths and addresses of this machine."""
        text = _ADDRESS.sub(lambda found: self._ports.setdefault(found[2], free_address()), text)
        return re.sub(r"(?<![\w/])/(opt|wheels|data|scratch)\b", rf"{self._folder}/\1", text)

    def environment(self, stage: Stage, service: dict[str, str]) -> dict[str, str]:
        """The variables of a container."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JOB_SERVICE_", "COMFY_WORKER_", "GENJOBS_"))
        }
        given = {name: self.text(value) for name, value in (stage.environment | service).items()}
        path = given["PATH"].replace("$PATH", os.defpath)
        url = self._database_url.render_as_string(hide_password=False)
        database = {"JOB_SERVICE_DATABASE_URL": url} if "JOB_SERVICE_DATABASE_URL" in given else {}
        return inherited | given | database | {"PATH": path}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the build stage makes, in ``opt/``."""
    folder = tmp_path_factory.mktemp("images")
    source = folder / "src"
    source.mkdir()
    for line in (composition.ROOT / ".dockerignore").read_text().split():
        found = composition.ROOT / line.removeprefix("!")
        if line.startswith("!") and found.is_dir():
            shutil.copytree(
                found, source / found.name, ignore=shutil.ignore_patterns("__pycache__")
            )
        elif line.startswith("!"):
            shutil.copy(found, source)
    here = OutsideContainers(folder, "postgresql://")
    (folder / "opt").mkdir()
    for line in stages()["build"].runs:
        subprocess.run(
            ["/bin/sh", "-ec", here.text(line)],
            cwd=source,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            check=True,
            timeout=600,
        )
    return folder


async def test_a_picture_is_made_by_what_the_composition_starts(
    built: Path, empty_database_url: str
) -> None:
    here = OutsideContainers(built, empty_database_url)
    seen: set[str] = set()
    async with AsyncExitStack() as running:
        for name, service in composition.ours().items():
            stage = stages()[service["build"]["target"]]
            environment = here.environment(stage, service.get("environment", {}))
            command = [here.text(word) for word in service.get("command", stage.command)]
            seen.add(name)
            if name == "migrate":
                assert await run(command, environment) == 0
                continue
            await running.enter_async_context(started(command, environment))
            if name == "comfy-worker":
                continue  # is healthy once the simulator is there
            await until_healthy([here.text(word) for word in stage.healthcheck], environment)
        worker = stages()["comfy-worker"]
        check = [here.text(word) for word in worker.healthcheck]
        await until_healthy(check, here.environment(worker, {}))
        submit = [
            *("genjobs", "submit", "--prompt", "a lighthouse", "--width", "64", "--height", "64"),
            *("--checkpoint", SimulatorSettings().checkpoints[0], "--wait"),
        ]
        client = here.environment(stages()["job-service"], {})
        address = here.text("127.0.0.1:50051")
        assert await run(submit, client | {"GENJOBS_ADDRESS": address}) == 0
    assert seen == {"migrate", "job-service", "comfy-worker", "simulator"}
    assert list((built / "data").rglob("*.*")) or any((built / "data" / "artifacts").iterdir())


def test_lines_of_the_dockerfile_that_are_not_run_here() -> None:
    left = [line for name, one in stages().items() if name != "build" for line in one.runs]
    assert [line.startswith(_ONLY_IN_AN_IMAGE) for line in left] == [True]


@pytest.mark.parametrize("part", ["service", "worker"])
def test_an_image_holds_its_own_part(built: Path, part: str) -> None:
    (packages,) = (built / "opt" / part).glob("lib/python*/site-packages")
    other = {"service": "comfy_worker", "worker": "job_service"}[part]
    assert not (packages / other).exists()
    assert not (packages / "pip").exists()
    assert (packages / "generation_jobs").is_dir()


def test_postgres_is_asked_for_its_health_in_words_that_it_knows() -> None:
    _, program, *options = composition.services()["postgres"]["healthcheck"]["test"]
    installed = find_programs().folder / program
    done = subprocess.run(
        [installed, *options, "--port", "1"], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 2  # nobody answers; 3 would be wrong options


@asynccontextmanager
async def started(command: list[str], environment: dict[str, str]) -> AsyncIterator[None]:
    """A process that runs while the block does, and ends with 0 when it is asked to."""
    process = await asyncio.create_subprocess_exec(
        *found(command, environment), env=environment, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        yield
        assert process.returncode is None, f"{command} has ended"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(command: list[str], environment: dict[str, str]) -> int | None:
    """Run a command to its end; its exit code."""
    process = await asyncio.create_subprocess_exec(
        *found(command, environment), env=environment, stdin=asyncio.subprocess.DEVNULL
    )
    return await asyncio.wait_for(process.wait(), 120)


def found(command: list[str], environment: dict[str, str]) -> list[str]:
    """The command, its program by its path in the container's environment."""
    program = shutil.which(command[0], path=environment["PATH"])
    assert program is not None, command
    return [program, *command[1:]]


async def until_healthy(command: list[str], environment: dict[str, str]) -> None:
    """Run a health check until it says yes."""
    async with asyncio.timeout(90):
        while await run(command, environment) != 0:  # noqa: ASYNC110  # a process can only be asked
            await asyncio.sleep(0.2)
