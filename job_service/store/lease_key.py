"""What names a lease, in calls and in the rows that statements take."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID


class LeaseEndedError(Exception):
    """The lease has ended."""


@dataclass(frozen=True, slots=True)
class LeaseKey:
    """Names one lease."""

    job_id: int
    token: UUID


def numbered(n: int, lease: LeaseKey) -> dict[str, Any]:
    """The columns of a lease in the n-th row given to a statement."""
    return {"n": n, "job_id": lease.job_id, "lease_token": lease.token}


def as_interval(span: timedelta | None) -> str | None:
    """A duration as an interval in JSON."""
    return None if span is None else f"{span // timedelta(microseconds=1)} microseconds"
