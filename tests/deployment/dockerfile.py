"""The Dockerfile, as far as it says what a container runs and in which environment."""

import json
import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from tests.deployment.composition import ROOT

FILE: Final = ROOT / "Dockerfile"


@dataclass(slots=True)
class Stage:
    """One stage, with what it has from the one that it is based on."""

    base: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    user: str = ""


@cache
def stages() -> dict[str, Stage]:
    """The stages by name."""
    found: dict[str, Stage] = {}
    stage = Stage()
    for word, rest in _instructions():
        match word:
            case "FROM":
                base, _, name = rest.split()
                before = found.get(base, Stage())
                stage = found[name] = Stage(
                    base, dict(before.environment), command=before.command, user=before.user
                )
            case "ENV":
                stage.environment |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "RUN":
                stage.runs.append(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(rest.partition("CMD ")[2])
            case "USER":
                stage.user = rest
    return found


def _instructions() -> list[tuple[str, str]]:
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]
