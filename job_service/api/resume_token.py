"""Resume tokens: opaque, bound to the filter they were made for, keyed on a point in history."""

import struct
from typing import Final

from job_service.api import opaque_token
from job_service.jobs.fields import FieldChecks
from job_service.store.changes import Position

_LAYOUT: Final = struct.Struct(">B8sQ")
_VERSION: Final = 1


def encode(request_digest: bytes, position: Position) -> str:
    """The token to go on from ``position`` with."""
    return opaque_token.pack(_LAYOUT, _VERSION, request_digest, position.xmin)


def decode(checks: FieldChecks, path: str, token: str, request_digest: bytes) -> Position | None:
    """The position to go on from; None to begin anew, or with a violation noted."""
    values = opaque_token.unpack(
        checks,
        path,
        token,
        layout=_LAYOUT,
        version=_VERSION,
        request_digest=request_digest,
        bound_to="filter",
    )
    return None if values is None else Position.before(*values)
