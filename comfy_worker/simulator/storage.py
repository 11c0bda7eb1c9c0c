"""The directories of a ComfyUI: output, input and temp; names and paths in them."""

import mimetypes
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from comfy_worker.simulator.settings import SimulatorSettings

_ANNOTATION = re.compile(r"^(?P<name>.*?) ?\[(?P<kind>output|input|temp)\]$")


class OutsideDirectoryError(Exception):
    """A path leads out of the directory it belongs to."""


@dataclass(frozen=True, slots=True)
class SaveTarget:
    """Where a batch of pictures goes.

    Attributes:
        folder: The directory, which exists.
        subfolder: The same, as clients see it: relative to the output directory.
        stem: Start of the file names; `%batch_num%` stands for the picture's place.
        counter: Number of the first picture.

    """

    folder: Path
    subfolder: str
    stem: str
    counter: int

    def file_name(self, index: int = 0, extension: str = "png") -> str:
        """Return the name of the picture at this place of the batch (recording 02)."""
        stem = self.stem.replace("%batch_num%", str(index))
        return f"{stem}_{self.counter + index:05}_.{extension}"


class Storage:
    """Output, input and temp directory of one simulator.

    Directories that the settings do not name are removed by `close`.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="comfy-simulator-")
        root = Path(self._temporary.name)
        self._directories = {
            "output": settings.output_directory or root / "output",
            "input": settings.input_directory or root / "input",
            "temp": root / "temp",
        }
        for kind, path in self._directories.items():
            path.mkdir(parents=True, exist_ok=True)
            self._directories[kind] = path.resolve()

    def close(self) -> None:
        """Remove the directories that were made for this simulator alone."""
        self._temporary.cleanup()

    def directory(self, kind: str) -> Path | None:
        """Return the output, input or temp directory; None for any other word."""
        return self._directories.get(kind)

    def input_files(self) -> tuple[str, ...]:
        """Return the names LoadImage offers: pictures right in the input directory, by name."""
        return tuple(
            sorted(
                path.name
                for path in self._directories["input"].iterdir()
                if path.is_file() and _is_picture(path.name)
            )
        )

    def annotated_path(self, name: str) -> str:
        """Return the path of an input such as `a.png`, `sub/a.png` or `a.png [output]`.

        Paths that lead out of the directory are not refused, as in ComfyUI (recording 10).
        """
        plain, kind = split_annotation(name)
        return os.path.join(self._directories[kind or "input"], plain)  # noqa: PTH118 - as is

    def inside(self, kind: str, *parts: str) -> Path:
        """Return a path below one of the directories.

        Raises:
            KeyError: `kind` is none of the three.
            OutsideDirectoryError: The path leads out of the directory.

        """
        root = self._directories[kind]
        path = Path(os.path.abspath(root.joinpath(*parts)))  # noqa: PTH100 - keeps symlinks
        if not path.is_relative_to(root):
            raise OutsideDirectoryError(f"{path} is outside the {kind} directory {root}")
        return path

    def save_target(self, kind: str, prefix: str, width: int, height: int) -> SaveTarget:
        """Choose folder, name and number for pictures of this prefix, and make the folder.

        The number continues after the highest one in the folder.

        Raises:
            OutsideDirectoryError: The prefix leads out of the directory (recording 05).

        """
        path = Path(os.path.normpath(_fill_in(prefix, width, height)))
        subfolder = "" if path.parent == Path() else str(path.parent)
        folder = self.inside(kind, subfolder)
        folder.mkdir(parents=True, exist_ok=True)
        return SaveTarget(folder, subfolder, path.name, _next_number(folder, path.name))


def _is_picture(name: str) -> bool:
    return (mimetypes.guess_type(name)[0] or "").startswith("image/")


def split_annotation(name: str) -> tuple[str, str | None]:
    """Split `a.png [output]` into name and directory (None without one): recording 10."""
    found = _ANNOTATION.match(name)
    return (name, None) if found is None else (found["name"], found["kind"])


def _fill_in(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values = {
        "width": width,
        "height": height,
        "year": now.tm_year,
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", str(value))
    return prefix


def _next_number(folder: Path, stem: str) -> int:
    pattern = re.compile(re.escape(stem) + r"_(\d+)_", re.IGNORECASE)
    with os.scandir(folder) as entries:
        numbers = [int(found[1]) for entry in entries if (found := pattern.match(entry.name))]
    return max(numbers, default=0) + 1
