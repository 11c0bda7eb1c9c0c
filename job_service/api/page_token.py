"""Page tokens: opaque, bound to the filter they were made for, keyed on the last row seen."""

import struct
from datetime import UTC, datetime, timedelta
from typing import Final

from job_service.api import opaque_token
from job_service.jobs.fields import FieldChecks

_LAYOUT: Final = struct.Struct(">B8sqq")
_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def encode(request_digest: bytes, last: tuple[datetime, int]) -> str:
    """The token for the page after ``last``: (time, id) of the last row."""
    moment, job_id = last
    microseconds = (moment - _EPOCH) // _MICROSECOND
    return opaque_token.pack(_LAYOUT, _VERSION, request_digest, microseconds, job_id)


def decode(
    checks: FieldChecks, path: str, token: str, request_digest: bytes
) -> tuple[datetime, int] | None:
    """The last row seen; None for the first page, or with a violation noted."""
    values = opaque_token.unpack(
        checks,
        path,
        token,
        layout=_LAYOUT,
        version=_VERSION,
        request_digest=request_digest,
        bound_to="filter or order",
    )
    if values is None:
        return None
    microseconds, job_id = values
    try:
        return _EPOCH + timedelta(microseconds=microseconds), job_id
    except OverflowError:
        checks.wrong(path, "is not a token of this service")
        return None
