"""What this process sends to PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

_execute = psycopg.AsyncCursor.execute


@contextmanager
def statements_sent() -> Iterator[list[tuple[bytes, Any]]]:
    """Every statement that is sent inside the block, with its parameters, as the driver has it."""
    sent: list[tuple[bytes, Any]] = []

    async def noting(cursor: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
        sent.append((query if isinstance(query, bytes) else str(query).encode(), parameters))
        return await _execute(cursor, query, parameters, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.AsyncCursor, "execute", noting)
        yield sent
