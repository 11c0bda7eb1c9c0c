"""What replicas tell one another, as the payloads of notifications.

A payload is a JSON object: who speaks, and lists of what there is of each kind, such as
``{"from":"9f86d081","job":[17,18],"work":[3]}``. Kinds that a newer replica knows and this one does
not are left out; what they would have told is found by the next reading.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final

from generation_jobs.v1 import job_pb2
from google.protobuf.message import DecodeError

from job_service.events.hub import (
    AdmissionDue,
    CancelRequested,
    CataloguesReported,
    CataloguesWanted,
    CatchUp,
    DrainChanged,
    JobChanged,
    ManyJobsChanged,
    PausesChanged,
    PreviewStored,
    RouteKeysAdded,
    TokensChanged,
    WorkAvailable,
    WorkerConcerned,
    WorkerRegistered,
)
from job_service.store.notifications import MAX_PAYLOAD


@dataclass(frozen=True, slots=True)
class Hello:
    """The sender has begun to listen and asks who is there."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The sender listens no more."""


@dataclass(frozen=True, slots=True)
class ProgressWanted:
    """The sender has watches of a job; None: of any job."""

    job_id: int | None


@dataclass(frozen=True, slots=True)
class PreviewsWanted:
    """The sender has watches of a job that show previews."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a job that was reported to the sender, serialised."""

    job_id: int
    content: str

    @classmethod
    def of(cls, job_id: int, progress: job_pb2.JobProgress) -> "Progress":
        """Progress of a job."""
        return cls(job_id, b64encode(progress.SerializeToString()).decode())

    @property
    def message(self) -> job_pb2.JobProgress | None:
        """What was reported; None: it makes no sense."""
        try:
            return job_pb2.JobProgress.FromString(b64decode(self.content, validate=True))
        except (ValueError, DecodeError):
            return None


#: Topics that concern other replicas.
TOPICS: Final[Mapping[str, type]] = {
    "job": JobChanged,
    "jobs": ManyJobsChanged,
    "work": WorkAvailable,
    "admission": AdmissionDue,
    "cancel": CancelRequested,
    "worker": WorkerConcerned,
    "registered": WorkerRegistered,
    "drain": DrainChanged,
    "catalogues": CataloguesReported,
    "refresh": CataloguesWanted,
    "pauses": PausesChanged,
    "route_keys": RouteKeysAdded,
    "preview": PreviewStored,
    "tokens": TokensChanged,
    "catch_up": CatchUp,
}

_KINDS: Final[Mapping[str, type]] = {
    **TOPICS,
    "hello": Hello,
    "leaving": Leaving,
    "want_progress": ProgressWanted,
    "want_previews": PreviewsWanted,
    "progress": Progress,
}


def _values_of(kind: type) -> Callable[[Any], Any]:
    """How one is written: ``true``, its only field, or a list of its fields."""
    names = [field.name for field in fields(kind)]
    return attrgetter(*names) if names else lambda _: True


_WRITE: Final = {kind: (name, _values_of(kind)) for name, kind in _KINDS.items()}
_READ: Final = {name: (kind, len(fields(kind))) for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Message:
    """What one replica says."""

    sender: str
    items: Sequence[Hashable]


def payloads(sender: str, items: Iterable[Hashable]) -> list[str]:
    """``items`` as few payloads as they fit in, in their order by kind; one, if there are none."""
    finished = []
    content: dict[str, Any] = {"from": sender}
    size = empty = len(_JSON.encode(content))
    for item in items:
        name, value_of = _WRITE[type(item)]
        value = value_of(item)
        weight = len(_JSON.encode(value)) + 1
        if size + weight + len(name) + 6 > MAX_PAYLOAD:
            finished.append(_JSON.encode(content))
            content, size = {"from": sender}, empty
        if name not in content:
            content[name] = []
            size += len(name) + 6
        content[name].append(value)
        size += weight
    return [*finished, _JSON.encode(content)]


# Pure ASCII, so that a character is a byte.
_JSON: Final = json.JSONEncoder(separators=(",", ":"))


def parsed(payload: str) -> Message:
    """What a payload says. Raises ValueError when it is not one of a replica."""
    try:
        content = json.loads(payload)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(content, dict) or not isinstance(content.get("from"), str):
        raise ValueError("names no sender")  # noqa: TRY004  # one kind of error for all of it
    items: list[Hashable] = []
    for name, values in content.items():
        if name in _READ and isinstance(values, list):
            items += (_read(*_READ[name], value) for value in values)
    return Message(content["from"], items)


def _read(kind: type, count: int, value: Any) -> Hashable:
    given = [] if not count else [value] if count == 1 else value
    if not isinstance(given, list) or len(given) != count or not all(map(_is_scalar, given)):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    item: Hashable = kind(*given)
    return item


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (int, str))
