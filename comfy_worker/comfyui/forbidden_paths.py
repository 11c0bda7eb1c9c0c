"""File names a graph may not carry, checked before ComfyUI sees it. Pure.

ComfyUI loads what LoadImage names, also ``../x.png`` and absolute paths (recording 10), and
custom nodes take paths too: a graph could read any file of the machine.
"""

import re
from collections.abc import Iterator
from typing import Final

from comfy_worker.comfyui.errors import InputError
from comfy_worker.comfyui.graph import Graph

_PATH_INPUTS: Final = re.compile(
    r"(?:image|mask|audio|video|file|upload|filename|filename_prefix|subfolder|path|folder"
    r"|directory|dir)$|_(?:name|path|file|folder|directory|dir)\d*$"
)
_LEADS_AWAY: Final = re.compile(r"^[\\/]|^~[\\/]|^[A-Za-z]:|(?:^|[\\/])\.\.(?:[\\/\s]|$)|\0")


def forbidden_paths(graph: Graph) -> tuple[InputError, ...]:
    """Name every input of a graph that holds a path leading out of ComfyUI's folders."""
    return tuple(_forbidden(graph))


def leads_away(path: str) -> bool:
    """Whether a path, or the start of one, leads out of the folder it is taken below."""
    return _LEADS_AWAY.search(path) is not None


def _forbidden(graph: Graph) -> Iterator[InputError]:
    for node_id, node in graph.items():
        inputs = node.get("inputs")
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            if not (isinstance(name, str) and isinstance(value, str)):
                continue
            if _PATH_INPUTS.search(name) and leads_away(value):
                yield InputError(
                    node_id,
                    str(node.get("class_type", "")),
                    "path_outside",
                    name,
                    "the path leads out of ComfyUI's own folders",
                )
