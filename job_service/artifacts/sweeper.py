"""Removes the files that nobody will read any more."""

from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.store.artifacts import ArtifactTable


class Sweeper:
    """Deletes objects first and their rows after, so that a crash in between is made good."""

    def __init__(self, table: ArtifactTable, objects: ObjectStoreOfArtifacts) -> None:
        self._table = table
        self._objects = objects

    async def sweep(self) -> int:
        """Remove the files of deleted jobs and of attempts that came to nothing; how many."""
        removed = 0
        while batch := await self._table.sweepable():
            await self._objects.delete([key for _, key in batch])
            await self._table.forget([artifact_id for artifact_id, _ in batch])
            removed += len(batch)
        return removed
