"""Tokens that callers hand back as they got them: packed, and bound to what they were made for."""

import base64
import hashlib
import struct
from typing import Any

from google.protobuf.message import Message

from job_service.jobs.fields import FieldChecks


def pack(layout: struct.Struct, version: int, request_digest: bytes, *values: int) -> str:
    """A token of these values."""
    return encoded(layout.pack(version, request_digest, *values))


def unpack(
    checks: FieldChecks,
    path: str,
    token: str,
    *,
    layout: struct.Struct,
    version: int,
    request_digest: bytes,
    bound_to: str,
) -> tuple[Any, ...] | None:
    """The values of a token; None with a violation noted, or when there is no token."""
    if not token:
        return None
    try:
        found_version, found_digest, *values = layout.unpack(decoded(token))
    except (ValueError, struct.error):
        checks.wrong(path, "is not a token of this service")
        return None
    if found_version != version:
        checks.wrong(path, "is not a token of this version of the service")
        return None
    if found_digest != request_digest:
        checks.wrong(path, f"belongs to a different {bound_to}")
        return None
    return tuple(values)


def encoded(content: bytes) -> str:
    """Bytes as text that needs no escaping in a URL."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decoded(token: str) -> bytes:
    """The bytes that ``encoded`` wrote. Raises ValueError."""
    padded = token.encode("ascii") + b"=" * (-len(token) % 4)
    return base64.b64decode(padded, altchars=b"-_", validate=True)


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
