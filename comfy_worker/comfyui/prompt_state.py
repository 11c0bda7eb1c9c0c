"""Where a prompt stands according to ``/queue`` and ``/history``, the sources of truth. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """Prompt ids in the order in which they run; an id sent twice is there twice."""

    running: tuple[str, ...]
    pending: tuple[str, ...]
    client_id: str | None = None
    """Whom the events of the running prompt are sent to."""

    def __contains__(self, prompt_id: object) -> bool:
        return prompt_id in self.running or prompt_id in self.pending


class UnexpectedShapeError(ValueError):
    """An answer that is not built the way the recordings are."""


class Ending(Enum):
    """How a prompt in the history ended."""

    SUCCEEDED = auto()
    FAILED = auto()
    INTERRUPTED = auto()


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A finished prompt.

    ``outputs`` is ComfyUI's own structure. The exception and node fields are empty
    where the ending names none. ``seconds`` is ComfyUI's own measure from start to
    end, None where it states none.
    """

    ending: Ending
    outputs: Any
    exception_type: str = ""
    exception_message: str = ""
    traceback: str = ""
    node_id: str = ""
    node_class: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """In the queue, behind ``ahead`` other prompts, the running one included."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Running:
    """Being executed; its events are sent to ``client_id``."""

    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """In the history."""

    entry: HistoryEntry


@dataclass(frozen=True, slots=True)
class Absent:
    """In neither: never sent, deleted while pending, or lost in a restart."""


PromptState: TypeAlias = Pending | Running | Finished | Absent


def queue_of(body: Any) -> QueueSnapshot:
    """Read the snapshot in a ``/queue`` answer; items are ``[number, prompt id, …]``.

    Raises UnexpectedShapeError when the answer has another shape.
    """
    if not isinstance(body, Mapping):
        raise UnexpectedShapeError("the queue is not an object")
    return QueueSnapshot(
        _ids(body, "queue_running"), _ids(body, "queue_pending"), _client_id(body["queue_running"])
    )


def state_in_queue(queue: QueueSnapshot, prompt_id: str) -> Pending | Running | None:
    """Where the queue has the prompt; running wins over a duplicate still pending."""
    if prompt_id in queue.running:
        return Running(queue.client_id)
    if prompt_id in queue.pending:
        return Pending(len(queue.running) + queue.pending.index(prompt_id))
    return None


def history_entry_of(body: Any, prompt_id: str) -> HistoryEntry | None:
    """Read the entry in a ``/history/{id}`` answer, None where the server has none.

    An interrupted run says ``error`` too; only its messages tell (recording 07c).
    Raises UnexpectedShapeError when the answer has another shape.
    """
    if not isinstance(body, Mapping):
        raise UnexpectedShapeError("the history is not an object")
    entry = body.get(prompt_id)
    if entry is None:
        return None
    if not isinstance(entry, Mapping):
        raise UnexpectedShapeError("the history entry is not an object")
    status = entry.get("status")
    status = status if isinstance(status, Mapping) else {}
    messages = _messages(status.get("messages"))
    outputs = entry.get("outputs")
    seconds = _seconds(messages)
    if "execution_interrupted" in messages:
        data = messages["execution_interrupted"]
        return HistoryEntry(
            Ending.INTERRUPTED,
            outputs,
            node_id=_text(data, "node_id"),
            node_class=_text(data, "node_type"),
            seconds=seconds,
        )
    if status.get("status_str") == "error" or "execution_error" in messages:
        data = messages.get("execution_error", {})
        return HistoryEntry(
            Ending.FAILED,
            outputs,
            exception_type=_text(data, "exception_type"),
            exception_message=_text(data, "exception_message"),
            traceback=_traceback(data.get("traceback")),
            node_id=_text(data, "node_id"),
            node_class=_text(data, "node_type"),
            seconds=seconds,
        )
    return HistoryEntry(Ending.SUCCEEDED, outputs, seconds=seconds)


def _ids(body: Mapping[str, Any], key: str) -> tuple[str, ...]:
    items = body.get(key)
    if not isinstance(items, list):
        raise UnexpectedShapeError(f"{key} is not a list")
    known = [item for item in items if isinstance(item, list) and len(item) >= 2]
    # The server lists its heap as it lies in memory; the lowest number runs first.
    known.sort(key=lambda item: item[0] if isinstance(item[0], int | float) else 0)
    return tuple(str(item[1]) for item in known)


def _client_id(running: list[Any]) -> str | None:
    match running:
        case [[_, _, _, {"client_id": str(client_id)}, *_], *_]:
            return client_id
        case _:
            return None


def _messages(messages: Any) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for message in messages if isinstance(messages, list) else []:
        match message:
            case [str(name), dict(data)]:
                found[name] = data
            case _:
                pass
    return found


def _traceback(lines: Any) -> str:
    if not isinstance(lines, list):
        return ""
    return "".join(line for line in lines if isinstance(line, str))


def _seconds(messages: Mapping[str, Mapping[str, Any]]) -> float | None:
    stamps = [data.get("timestamp") for data in messages.values()]
    known = [stamp for stamp in stamps if isinstance(stamp, int | float)]
    return (max(known) - min(known)) / 1000 if len(known) > 1 else None


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""
