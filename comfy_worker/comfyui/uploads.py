"""Files that ComfyUI was given to start from."""

from collections import OrderedDict
from pathlib import Path
from typing import Final

from comfy_worker.comfyui.client import ComfyClient

_FOLDER: Final = "generation-jobs"
_MOST_REMEMBERED: Final = 4096


class Uploads:
    """Uploads files into ComfyUI's input folder and remembers which it has.

    ComfyUI never deletes them, but somebody else may: :meth:`forget` is for when it says that
    a file is gone. ``name`` stands for the content, so that equal names mean equal files.
    """

    def __init__(self, client: ComfyClient) -> None:
        self._client = client
        self._known: OrderedDict[str, str] = OrderedDict()

    def find(self, name: str) -> str | None:
        """Return the value that a graph names the file by, if ComfyUI was given it."""
        value = self._known.get(name)
        if value is not None:
            self._known.move_to_end(name)
        return value

    async def put(self, name: str, path: Path) -> str:
        """Upload the file at ``path``; return the value that a graph names it by.

        Raises ComfyUnreachableError and UnexpectedAnswerError, which has status 413 for a file
        that is too large for this ComfyUI.
        """
        stored = await self._client.upload(path, name=name, folder=_FOLDER)
        value = f"{_FOLDER}/{stored}"
        self._known[name] = value
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return value

    def forget(self, name: str) -> None:
        """Note that ComfyUI does not have the file any more."""
        self._known.pop(name, None)
