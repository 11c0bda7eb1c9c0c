"""Where the files of one job are that do not go through memory."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Name a folder, and remove it at the end.

    Most jobs need none, so whoever writes the first file makes it; nobody else can guess its name.
    """
    path = Path(tempfile.gettempdir()) / f"comfy-worker-{token_hex(16)}"
    try:
        yield path
    finally:
        if path.exists():
            shutil.rmtree(path, ignore_errors=True)
