"""The job that a call is about, for every line that is logged meanwhile."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import structlog
from google.protobuf.message import Message

#: Where a request names its job. Only jobs are called just `id` in requests.
_PATHS: Final = {
    "id": "id",
    "job_id": "job_id",
    "job": "job.id",
    "lease": "lease.job_id",
}
_readers: Final[dict[type[Any], Callable[[Any], int] | None]] = {}


def note_job(request: Any) -> None:
    """Note the job that a request names, if it names one."""
    kind = type(request)
    if kind not in _readers:
        _readers[kind] = _reader(request)
    read = _readers[kind]
    if read is not None and (job_id := read(request)):
        structlog.contextvars.bind_contextvars(job_id=job_id)


def _reader(request: Any) -> Callable[[Any], int] | None:
    if not isinstance(request, Message):  # a stream
        return None
    fields = request.DESCRIPTOR.fields_by_name
    return next((attrgetter(path) for field, path in _PATHS.items() if field in fields), None)
