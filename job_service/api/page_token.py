"""Page tokens: opaque, bound to the filter they were made for, keyed on the last row seen."""

import base64
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.message import Message

from job_service.jobs.fields import FieldChecks

_FORMAT: Final = struct.Struct(">B8sqq")
_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def encode(request_digest: bytes, last: tuple[datetime, int]) -> str:
    """The token for the page after ``last``: (time, id) of the last row."""
    moment, job_id = last
    packed = _FORMAT.pack(_VERSION, request_digest, (moment - _EPOCH) // _MICROSECOND, job_id)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(
    checks: FieldChecks, path: str, token: str, request_digest: bytes
) -> tuple[datetime, int] | None:
    """The last row seen; None for the first page, or with a violation noted."""
    if not token:
        return None
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        packed = base64.b64decode(padded, altchars=b"-_", validate=True)
        version, digest, microseconds, job_id = _FORMAT.unpack(packed)
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except (ValueError, struct.error, OverflowError):
        checks.wrong(path, "is not a token of this service")
        return None
    if version != _VERSION:
        checks.wrong(path, "is not a token of this version of the service")
        return None
    if digest != request_digest:
        checks.wrong(path, "belongs to a different filter or order")
        return None
    return moment, job_id


def digest(*parts: Message | str | int) -> bytes:
    """Eight bytes that tell one filter, order and caller from another."""
    hashed = hashlib.sha256()
    for part in parts:
        raw = (
            part.SerializeToString(deterministic=True)
            if isinstance(part, Message)
            else str(part).encode()
        )
        hashed.update(struct.pack(">I", len(raw)) + raw)
    return hashed.digest()[:8]
