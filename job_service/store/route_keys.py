"""What jobs need of workers, interned as small integers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from job_service.jobs.routing import Needs
from job_service.store.database import Connection, Database, Row, as_json, statement

_INTERN: Final = statement("""
INSERT INTO route_keys (digest, needs)
SELECT decode(digest, 'hex'), CAST(needs AS jsonb)
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (digest text, needs text)
ORDER BY digest
ON CONFLICT (digest) DO NOTHING
""")

_BY_DIGEST: Final = statement("SELECT id, needs FROM route_keys WHERE digest = ANY(:digests)")

_NEWER: Final = statement("SELECT id, needs FROM route_keys WHERE id > :known ORDER BY id")


class RouteKeys:
    """Ids of needs. Kept in memory: keys are never changed or removed.

    ``on_new`` is called when jobs created here have brought keys.
    """

    def __init__(
        self, database: Database | Connection, on_new: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._on_new = on_new
        self._ids: dict[Needs, int] = {}
        self._needs: dict[int, Needs] = {}
        self._read_to = 0

    @property
    def known(self) -> Mapping[int, Needs]:
        """Every key this replica has seen."""
        return self._needs

    async def of(self, needs: Sequence[Needs]) -> list[int]:
        """The id of each; new ones are stored."""
        new = {one for one in needs if one not in self._ids}
        if new:
            rows = [{"digest": one.digest.hex(), "needs": one.to_json()} for one in new]
            await self._database.run(_INTERN, {"rows": as_json(rows)})
            self._learn(
                await self._database.rows(_BY_DIGEST, {"digests": [one.digest for one in new]})
            )
            self._on_new()
        return [self._ids[one] for one in needs]

    async def refresh(self) -> bool:
        """Learn keys that other replicas have stored; whether there were any."""
        # An id may become visible after a higher one, so recent ones are read again. Ids that jobs
        # created here have brought say nothing of those below them.
        before = len(self._needs)
        rows = await self._database.rows(_NEWER, {"known": self._read_to - _OVERLAP})
        self._learn(rows)
        self._read_to = max([self._read_to, *(row.id for row in rows)])
        return len(self._needs) > before

    def _learn(self, rows: Sequence[Row]) -> None:
        for row in rows:
            needs = Needs.from_json(row.needs)
            self._ids[needs] = row.id
            self._needs[row.id] = needs


#: How many ids below the highest may still be on their way.
_OVERLAP: Final = 100
