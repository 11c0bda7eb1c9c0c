"""Statements on what node classes take and give: stored once for each content."""

from collections.abc import Collection
from typing import Final

from job_service.store.database import Database, statement

_CONTENTS: Final = statement(
    "SELECT digest, content FROM node_signatures WHERE digest = ANY(:digests)"
)

# Whoever reports the same content at this moment has locked its row and makes it fresh.
_SWEEP: Final = statement("""
DELETE FROM node_signatures AS signatures
WHERE reported_at < now() - interval '1 hour' AND NOT EXISTS (
    SELECT FROM backend_catalogues AS catalogue
    WHERE catalogue.signatures_digest = signatures.digest
)
""")


class NodeSignatureTable:
    """Signatures by digest. ``WorkerStore.report_catalogues`` writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def contents(self, digests: Collection[bytes]) -> dict[bytes, bytes]:
        """Packed signatures by digest; those that are not known are missing."""
        rows = await self._database.rows(_CONTENTS, {"digests": list(digests)})
        return {bytes(row.digest): bytes(row.content) for row in rows}

    async def sweep(self) -> None:
        """Remove signatures that no catalogue refers to any more."""
        await self._database.run(_SWEEP)
