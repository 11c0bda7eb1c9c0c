"""The files a finished prompt made, out of its history outputs. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_RESULT_FOLDER = "output"


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file as ``/view`` finds it.

    ``folder`` is ComfyUI's type: output, temp or input. ``kind`` is the output key the
    node chose (images, gifs, audio, 3d …).
    """

    node_id: str
    kind: str
    filename: str
    subfolder: str
    folder: str

    @property
    def is_preview(self) -> bool:
        """Whether ComfyUI keeps the file only for display (type temp, recording 06)."""
        return self.folder != _RESULT_FOLDER


def output_files(outputs: Any) -> tuple[OutputFile, ...]:
    """List the files of a history entry's ``outputs``, in their order, each once.

    Any node and any key counts, as long as it holds objects with a file name. What
    nodes only preview is left out unless the prompt made nothing else.
    """
    found = tuple(dict.fromkeys(_all_files(outputs)))
    results = tuple(file for file in found if not file.is_preview)
    return results or found


def _all_files(outputs: Any) -> Iterator[OutputFile]:
    if not isinstance(outputs, Mapping):
        return
    for node_id, node_output in outputs.items():
        if not isinstance(node_output, Mapping):
            continue
        for kind, items in node_output.items():
            for item in items if isinstance(items, list) else [items]:
                file = _file(str(node_id), str(kind), item)
                if file is not None:
                    yield file


def _file(node_id: str, kind: str, item: Any) -> OutputFile | None:
    if not isinstance(item, Mapping):
        return None
    filename = item.get("filename")
    subfolder = item.get("subfolder", "")
    folder = item.get("type", _RESULT_FOLDER)
    if not isinstance(filename, str) or not filename:
        return None
    if not isinstance(subfolder, str) or not isinstance(folder, str):
        return None
    return OutputFile(node_id, kind, filename, subfolder, folder)
