"""Statements on pauses of dispatch."""

from dataclasses import dataclass
from typing import Final

from job_service.jobs.routing import Needs
from job_service.store.database import Database, statement

_LIST: Final = statement("SELECT backend_label, checkpoint_model FROM dispatch_pauses")

_ADD: Final = statement("""
INSERT INTO dispatch_pauses (backend_label, checkpoint_model, reason)
VALUES (:backend_label, :checkpoint_model, :reason)
ON CONFLICT (backend_label, checkpoint_model) DO UPDATE SET reason = excluded.reason
""")

_REMOVE: Final = statement("""
DELETE FROM dispatch_pauses
WHERE backend_label IS NOT DISTINCT FROM CAST(:backend_label AS text)
    AND checkpoint_model IS NOT DISTINCT FROM CAST(:checkpoint_model AS text)
""")

_AFFECTED: Final = statement("""
SELECT count(*) AS jobs FROM generation_jobs
WHERE status = 'pending'
    AND (backend_label = :backend_label OR checkpoint_model = :checkpoint_model)
""")

# Of those that a pause covered: the ones that no other covers.
_UNCOVERED: Final = statement("""
SELECT count(*) AS jobs FROM generation_jobs AS job
WHERE status = 'pending'
    AND (backend_label = :backend_label OR checkpoint_model = :checkpoint_model)
    AND NOT EXISTS (
        SELECT FROM dispatch_pauses AS pause
        WHERE pause.backend_label = job.backend_label
            OR pause.checkpoint_model = job.checkpoint_model
    )
""")


@dataclass(frozen=True, slots=True)
class Pause:
    """Jobs that are kept waiting: those with this backend label, or with this checkpoint."""

    backend_label: str | None = None
    checkpoint_model: str | None = None

    def covers(self, needs: Needs) -> bool:
        """Whether jobs with these needs wait."""
        return needs.backend_label == self.backend_label or (
            self.checkpoint_model is not None and needs.checkpoint == self.checkpoint_model
        )


class PauseStore:
    """Pauses in the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> frozenset[Pause]:
        """Every pause in force."""
        rows = await self._database.rows(_LIST)
        return frozenset(Pause(row.backend_label, row.checkpoint_model) for row in rows)

    async def add(self, pause: Pause, reason: str) -> None:
        """Put a pause in force; the same again only changes the reason."""
        await self._database.run(_ADD, {**_selector(pause), "reason": reason})

    async def remove(self, pause: Pause) -> int:
        """End a pause; one that is not in force is no error.

        How many pending jobs it would cover that no other pause does.
        """
        await self._database.run(_REMOVE, _selector(pause))
        row = await self._database.row(_UNCOVERED, _selector(pause))
        return 0 if row is None else row.jobs

    async def affected(self, pause: Pause) -> int:
        """Pending jobs that the pause covers."""
        row = await self._database.row(_AFFECTED, _selector(pause))
        return 0 if row is None else row.jobs


def _selector(pause: Pause) -> dict[str, str | None]:
    return {"backend_label": pause.backend_label, "checkpoint_model": pause.checkpoint_model}
