"""What this process sends to PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg
import pytest

from job_service.api.caller import principal

#: A statement as the driver has it, and its parameters.
Sent: TypeAlias = tuple[bytes, Any]

_execute = psycopg.AsyncCursor.execute


@contextmanager
def statements_sent() -> Iterator[list[Sent]]:
    """Every statement that is sent inside the block, with its parameters, as the driver has it."""
    with _noted(lambda: True) as sent:
        yield sent


@contextmanager
def statements_of_calls() -> Iterator[list[Sent]]:
    """Those among them that a job_service of this process sends to serve a call."""
    with _noted(_serves_a_call) as sent:
        yield sent


@contextmanager
def _noted(counts: Callable[[], bool]) -> Iterator[list[Sent]]:
    sent: list[Sent] = []

    async def noting(cursor: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
        if counts():
            sent.append((query if isinstance(query, bytes) else str(query).encode(), parameters))
        return await _execute(cursor, query, parameters, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.AsyncCursor, "execute", noting)
        yield sent


def _serves_a_call() -> bool:
    try:
        principal()
    except LookupError:
        return False
    return True
