"""Statements on tokens: digests, whom they stand for, and for how long."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from job_service.store.database import Database, Row, statement

_COLUMNS: Final = """
token.id, token.name, token.role, token.user_id, token.worker, token.created_at, token.expires_at,
token.revoked_at, token.last_used_at, token.expires_at - now() AS expires_in"""

_ADD: Final = statement(f"""
INSERT INTO access_tokens AS token (name, digest, role, user_id, worker, expires_at)
VALUES (:name, :digest, :role, CAST(:user_id AS uuid), CAST(:worker AS varchar),
    now() + CAST(:lifetime AS interval))
RETURNING {_COLUMNS}
""")

_LIST: Final = statement(f"SELECT {_COLUMNS} FROM access_tokens AS token ORDER BY id")

_REVOKE: Final = statement("""
UPDATE access_tokens SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL
""")

_FIND: Final = statement(f"""
SELECT token.digest, {_COLUMNS} FROM access_tokens AS token WHERE digest = ANY(:digests)
""")

# Writing down every use would be a write for every call.
_LOOK_AGAIN: Final = statement(f"""
WITH used AS (
    UPDATE access_tokens SET last_used_at = now()
    WHERE digest = ANY(:used)
        AND (last_used_at IS NULL OR last_used_at < now() - CAST(:precision AS interval))
)
SELECT token.digest, {_COLUMNS} FROM access_tokens AS token WHERE digest = ANY(:digests)
""")

#: How exactly the time of the last use is known.
_PRECISION: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One row of ``access_tokens``. ``expires_in`` is less than 0 when its time is over."""

    id: int
    name: str
    role: str
    user_id: UUID | None
    worker: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    expires_in: timedelta | None


class TokenTable:
    """Tokens in the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        name: str,
        digest: bytes,
        role: str,
        *,
        user_id: UUID | None,
        worker: str,
        lifetime: timedelta | None,
    ) -> TokenRow:
        """Store a token by its digest; ``lifetime``: None for ever."""
        row = await self._database.row(
            _ADD,
            {
                "name": name,
                "digest": digest,
                "role": role,
                "user_id": user_id,
                "worker": worker or None,
                "lifetime": lifetime,
            },
        )
        assert row is not None, "the statement answers the row it wrote"
        return _token(row)

    async def all(self) -> Sequence[TokenRow]:
        """Every token that was ever made, oldest first."""
        return [_token(row) for row in await self._database.rows(_LIST)]

    async def revoke(self, token_id: int) -> bool:
        """End a token; whether there was such a token that had not been revoked."""
        return bool(await self._database.run(_REVOKE, {"id": token_id}))

    async def find(self, digests: Collection[bytes]) -> dict[bytes, TokenRow]:
        """Those of the tokens that there are, by digest."""
        rows = await self._database.rows(_FIND, {"digests": list(digests)})
        return {bytes(row.digest): _token(row) for row in rows}

    async def look_again(
        self, digests: Collection[bytes], used: Collection[bytes]
    ) -> dict[bytes, TokenRow]:
        """As :meth:`find`; writes down that some of them have been used. One statement."""
        rows = await self._database.rows(
            _LOOK_AGAIN,
            {"digests": list(digests), "used": list(used), "precision": _PRECISION},
        )
        return {bytes(row.digest): _token(row) for row in rows}


def _token(row: Row) -> TokenRow:
    return TokenRow(
        id=row.id,
        name=row.name,
        role=row.role,
        user_id=row.user_id,
        worker=row.worker or "",
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        expires_in=row.expires_in,
    )
