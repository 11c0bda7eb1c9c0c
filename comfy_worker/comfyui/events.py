"""ComfyUI's WebSocket messages as typed events. Pure, and total: any input gives an event.

Text frames are ``{"type", "data"}`` (recording 02). Binary frames start with a
big-endian u32 naming their kind (recordings 12 and 15). What is unknown becomes
:class:`Unknown`, what is broken :class:`Malformed`; nothing raises, because a bad
frame must not end the session of every other prompt.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from comfy_worker.comfyui.outputs import OutputFile, output_files

_PREVIEW, _PREVIEW_UNENCODED, _TEXT, _PREVIEW_WITH_METADATA = 1, 2, 3, 4
_IMAGE_TYPES: Final = {1: "image/jpeg", 2: "image/png"}
_U32: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Status:
    """The queue's length changed; sent to every socket."""

    queue_remaining: int | None


@dataclass(frozen=True, slots=True)
class ExecutionStart:
    """ComfyUI took the prompt from its queue."""

    prompt_id: str


@dataclass(frozen=True, slots=True)
class ExecutionCached:
    """These nodes are not run again; sent once after the start, also when empty."""

    prompt_id: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """Where one node stands; ``state`` is pending, running, finished or error."""

    value: float
    maximum: float
    state: str


@dataclass(frozen=True, slots=True)
class ProgressState:
    """All nodes of the prompt that are running or done."""

    prompt_id: str
    nodes: Mapping[str, NodeProgress]


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Steps within one node; older servers send no prompt id."""

    prompt_id: str | None
    node_id: str | None
    value: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Executing:
    """A node begins. Without a node: the prompt is over and its history is readable.

    A socket opened in mid-run gets one without a prompt id (recording 08b).
    """

    prompt_id: str | None
    node_id: str | None


@dataclass(frozen=True, slots=True)
class Executed:
    """A node with a visible output is done.

    ``files`` are there already; what counts as made is read from the history.
    """

    prompt_id: str
    node_id: str
    files: tuple[OutputFile, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutionSuccess:
    """All nodes ran. The history entry may not exist yet (recording 13)."""

    prompt_id: str


@dataclass(frozen=True, slots=True)
class ExecutionError:
    """A node raised."""

    prompt_id: str
    node_id: str | None
    node_class: str | None
    exception_type: str
    exception_message: str


@dataclass(frozen=True, slots=True)
class ExecutionInterrupted:
    """The run was stopped on request, at this node."""

    prompt_id: str
    node_id: str | None
    node_class: str | None


@dataclass(frozen=True, slots=True)
class PreviewImage:
    """An encoded picture, belonging to the running prompt where no id is given."""

    prompt_id: str | None
    node_id: str | None
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class NodeText:
    """A line of text a node shows while it runs."""

    node_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a kind this driver has no use for."""

    kind: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that is not what its kind promises."""

    reason: str


Event: TypeAlias = (
    Status
    | ExecutionStart
    | ExecutionCached
    | ProgressState
    | StepProgress
    | Executing
    | Executed
    | ExecutionSuccess
    | ExecutionError
    | ExecutionInterrupted
    | PreviewImage
    | NodeText
    | Unknown
    | Malformed
)


class _BadFieldError(Exception):
    """A field is missing or of the wrong type."""


def parse_text(frame: str) -> Event:
    """Return the event in a text frame; NaN and Infinity are accepted (recording 19)."""
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError) as error:
        return Malformed(f"not JSON: {type(error).__name__}")
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return Malformed("not an object with a type")
    kind = message["type"]
    parse = _TEXT_PARSERS.get(kind)
    if parse is None:
        return Unknown(kind)
    data = message.get("data")
    if not isinstance(data, dict):
        return Malformed(f"{kind} without data")
    try:
        return parse(data)
    except _BadFieldError as error:
        return Malformed(f"{kind}: {error}")


def parse_binary(frame: bytes) -> Event:
    """Return the event in a binary frame; its image is the frame's rest, unchecked."""
    if len(frame) < 2 * _U32.size:
        return Malformed("binary frame shorter than its header")
    (kind,) = _U32.unpack_from(frame)
    (second,) = _U32.unpack_from(frame, _U32.size)
    rest = frame[2 * _U32.size :]
    if kind == _PREVIEW:
        media_type = _IMAGE_TYPES.get(second)
        if media_type is None:
            return Malformed(f"preview of unknown image type {second}")
        return PreviewImage(None, None, media_type, rest)
    if kind == _TEXT:
        return _node_text(second, rest)
    if kind == _PREVIEW_WITH_METADATA:
        return _preview_with_metadata(second, rest)
    return Unknown(f"binary {kind}")


def _node_text(length: int, rest: bytes) -> Event:
    if length > len(rest):
        return Malformed("text frame cut inside its node id")
    try:
        return NodeText(rest[:length].decode(), rest[length:].decode())
    except UnicodeDecodeError:
        return Malformed("text frame is not UTF-8")


def _preview_with_metadata(length: int, rest: bytes) -> Event:
    if length > len(rest):
        return Malformed("preview cut inside its metadata")
    try:
        metadata = json.loads(rest[:length])
    except (ValueError, RecursionError) as error:
        return Malformed(f"preview metadata is not JSON: {type(error).__name__}")
    if not isinstance(metadata, dict):
        return Malformed("preview metadata is not an object")
    media_type = metadata.get("image_type")
    return PreviewImage(
        _optional_text(metadata, "prompt_id"),
        _optional_text(metadata, "node_id"),
        media_type if isinstance(media_type, str) else "image/jpeg",
        rest[length:],
    )


def _status(data: dict[str, Any]) -> Event:
    status = data.get("status")
    info = status.get("exec_info") if isinstance(status, dict) else None
    remaining = info.get("queue_remaining") if isinstance(info, dict) else None
    return Status(remaining if isinstance(remaining, int) else None)


def _cached(data: dict[str, Any]) -> Event:
    nodes = data.get("nodes")
    if not isinstance(nodes, list):
        raise _BadFieldError("nodes is not a list")
    return ExecutionCached(
        _text(data, "prompt_id"), tuple(node for node in nodes if isinstance(node, str))
    )


def _progress_state(data: dict[str, Any]) -> Event:
    nodes = data.get("nodes")
    if not isinstance(nodes, dict):
        raise _BadFieldError("nodes is not an object")
    states: dict[str, NodeProgress] = {}
    for node_id, node in nodes.items():
        if not isinstance(node, dict):
            raise _BadFieldError("a node is not an object")
        states[node_id] = NodeProgress(
            _number(node, "value"), _number(node, "max"), _optional_text(node, "state") or ""
        )
    return ProgressState(_text(data, "prompt_id"), states)


def _step_progress(data: dict[str, Any]) -> Event:
    return StepProgress(
        _optional_text(data, "prompt_id"),
        _optional_text(data, "node"),
        _number(data, "value"),
        _number(data, "max"),
    )


def _executed(data: dict[str, Any]) -> Event:
    node_id = _text(data, "node")
    files = output_files({node_id: data.get("output")})
    return Executed(_text(data, "prompt_id"), node_id, files)


def _execution_error(data: dict[str, Any]) -> Event:
    return ExecutionError(
        _text(data, "prompt_id"),
        _optional_text(data, "node_id"),
        _optional_text(data, "node_type"),
        _optional_text(data, "exception_type") or "",
        _optional_text(data, "exception_message") or "",
    )


def _interrupted(data: dict[str, Any]) -> Event:
    return ExecutionInterrupted(
        _text(data, "prompt_id"),
        _optional_text(data, "node_id"),
        _optional_text(data, "node_type"),
    )


_TEXT_PARSERS: Final[Mapping[str, Callable[[dict[str, Any]], Event]]] = {
    "status": _status,
    "execution_start": lambda data: ExecutionStart(_text(data, "prompt_id")),
    "execution_cached": _cached,
    "progress_state": _progress_state,
    "progress": _step_progress,
    "executing": lambda data: Executing(
        _optional_text(data, "prompt_id"), _optional_text(data, "node")
    ),
    "executed": _executed,
    "execution_success": lambda data: ExecutionSuccess(_text(data, "prompt_id")),
    "execution_error": _execution_error,
    "execution_interrupted": _interrupted,
}


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise _BadFieldError(f"{key} is not a string")
    return value


def _optional_text(data: dict[str, Any], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) else None


def _number(data: dict[str, Any], key: str) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadFieldError(f"{key} is not a number")
    try:
        number = float(value)
    except OverflowError:
        raise _BadFieldError(f"{key} is out of range") from None
    if not math.isfinite(number):
        raise _BadFieldError(f"{key} is not finite")
    return number
