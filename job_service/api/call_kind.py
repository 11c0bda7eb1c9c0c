"""What calls cost while they last: each kind has its own budget, so that none starves another.

Short calls end by themselves. Held calls wait for something to happen, cheaply, for up to a minute
or for ever. Transfers move bytes as fast as the caller reads or writes them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

SERVICES: Final = "/generation_jobs.v1."


class CallKind(StrEnum):
    """Which budget a call takes from."""

    SHORT = "short"
    HELD = "held"
    TRANSFER = "transfer"


_KINDS: Final[Mapping[str, CallKind]] = {
    "GenerationJobService/WatchJob": CallKind.HELD,
    "GenerationJobService/WatchJobs": CallKind.HELD,
    "GenerationJobService/ReadArtifact": CallKind.TRANSFER,
    "GenerationJobService/UploadInput": CallKind.TRANSFER,
    "WorkerService/LeaseJobs": CallKind.HELD,
    "WorkerService/Heartbeat": CallKind.HELD,
    "WorkerService/UploadArtifact": CallKind.TRANSFER,
    "WorkerService/ReadInput": CallKind.TRANSFER,
}


def kind_of(method: str) -> CallKind:
    """The kind of ``/generation_jobs.v1.Service/Method``."""
    return _KINDS.get(method.removeprefix(SERVICES), CallKind.SHORT)
