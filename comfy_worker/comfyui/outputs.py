"""What a finished prompt made, out of its history outputs. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_RESULT_FOLDER: Final = "output"
_TEXT_KEYS: Final = re.compile(r"(?:^|_)(?:text|string)s?$")
"""Keys under which nodes put text out; others hold settings, such as ``format``."""
_UNFIT_FOR_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NODE_IN_NAME: Final = 100


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


@dataclass(frozen=True, slots=True)
class OutputText:
    """A text a node put out, under a file name of this driver's making."""

    node_id: str
    filename: str
    text: str


def output_files(outputs: Any) -> tuple[OutputFile, ...]:
    """List the files of a history entry's ``outputs``, in their order, each once.

    Any node and any key counts, as long as it holds objects with a file name. What
    nodes only preview is left out unless the prompt made nothing else.
    """
    found = tuple(
        dict.fromkeys(
            file
            for node_id, kind, item in _items(outputs)
            if (file := _file(node_id, kind, item)) is not None
        )
    )
    results = tuple(file for file in found if not file.is_preview)
    return results or found


def output_texts(outputs: Any) -> tuple[OutputText, ...]:
    """List the texts of a history entry's ``outputs``, in their order; empty ones are none.

    They stand under ``text`` and the like, alone or in a list (recording 06: ``{"text":
    ["hello"]}``).
    """
    texts: list[OutputText] = []
    for node_id, kind, item in _items(outputs):
        if isinstance(item, str) and item and _TEXT_KEYS.search(kind):
            node = _UNFIT_FOR_NAMES.sub("_", node_id)[:_LONGEST_NODE_IN_NAME]
            texts.append(OutputText(node_id, f"{node}_text_{len(texts) + 1:05}.txt", item))
    return tuple(texts)


def _items(outputs: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield node id, key and value of all that nodes put out, lists one by one."""
    if not isinstance(outputs, Mapping):
        return
    for node_id, node_output in outputs.items():
        if not isinstance(node_output, Mapping):
            continue
        for kind, items in node_output.items():
            for item in items if isinstance(items, list) else [items]:
                yield str(node_id), str(kind), item


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
