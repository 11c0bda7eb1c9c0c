"""docker-compose.yml as Compose reads it, with no variable set."""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "docker-compose.yml"
_VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")


@cache
def composition() -> dict[str, Any]:
    """The whole file."""
    text = _VARIABLE.sub(lambda found: found[2], FILE.read_text(encoding="utf-8"))
    assert "$" not in text.replace("$$", ""), "a variable without a default"
    loaded: dict[str, Any] = YAML(typ="safe").load(text)
    return loaded


def services() -> dict[str, dict[str, Any]]:
    """Its services by name."""
    found: dict[str, dict[str, Any]] = composition()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """Those that run an image of this project."""
    return {name: service for name, service in services().items() if "build" in service}
