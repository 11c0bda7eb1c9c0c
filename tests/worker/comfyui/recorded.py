"""Real ComfyUI traffic, as recorded: ordered lists of frames and requests."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FOLDERS = (Path(__file__).parents[2] / "recordings", Path(__file__).parent / "recordings")


def entries(name: str) -> list[dict[str, Any]]:
    """Everything in a recording."""
    path = next(path for path in _paths() if path.stem == name)
    loaded: list[dict[str, Any]] = json.loads(path.read_text())
    return loaded


def all_names() -> list[str]:
    """The recordings there are."""
    return sorted(path.stem for path in _paths())


def _paths() -> Iterator[Path]:
    return (path for folder in _FOLDERS for path in folder.glob("[0-9]*.json"))


def text_frames(name: str) -> list[str]:
    """The text frames a recorded server sent, in order."""
    return [
        json.dumps(entry["body"])
        for entry in entries(name)
        if entry["channel"] == "ws" and entry.get("kind") == "text"
    ]


def binary_frames(name: str) -> list[bytes]:
    """The binary frames a recorded server sent, in order; long ones are cut."""
    return [
        base64.b64decode(entry["base64"])
        for entry in entries(name)
        if entry["channel"] == "ws" and entry.get("kind") == "binary"
    ]


def answers(name: str, path: str) -> Iterator[tuple[int, Any]]:
    """Status and body of the recorded answers to requests whose path starts so."""
    for entry in entries(name):
        if (
            entry["channel"] == "http"
            and entry["direction"] == "response"
            and entry["path"].startswith(path)
        ):
            yield entry["status"], entry["body"]


def noted_answers(name: str) -> dict[str, tuple[int, Any]]:
    """The recorded answers by the note that introduces their request."""
    found: dict[str, tuple[int, Any]] = {}
    note = ""
    for entry in entries(name):
        if entry["channel"] == "note":
            note = entry["text"]
        elif entry["channel"] == "http" and entry["direction"] == "response":
            found.setdefault(note, (entry["status"], entry["body"]))
    return found
