"""Removes files that nobody will read any more."""

from typing import Final

from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.store.artifacts import ArtifactTable
from job_service.store.inputs import InputTable

_BATCH: Final = 200


class Sweeper:
    """Deletes objects first and their rows after, so that a crash in between is made good.

    Each method removes one batch and says whether there may be more. They raise RefusedError:
    ARTIFACT_STORE_UNAVAILABLE, DATABASE_UNAVAILABLE.
    """

    def __init__(
        self, artifacts: ArtifactTable, inputs: InputTable, objects: ObjectStoreOfArtifacts
    ) -> None:
        self._artifacts = artifacts
        self._inputs = inputs
        self._objects = objects

    async def artifacts(self) -> bool:
        """Remove files without a job, and files of attempts that came to nothing."""
        batch = await self._artifacts.sweepable(_BATCH)
        if batch:
            await self._objects.delete([key for _, key in batch])
            await self._artifacts.forget([artifact_id for artifact_id, _ in batch])
        return len(batch) >= _BATCH

    async def inputs(self) -> bool:
        """Remove inputs that nobody uses."""
        more = await self._inputs.retire(_BATCH)
        batch = await self._inputs.retired(_BATCH)
        if batch:
            await self._objects.delete([key for _, key in batch])
            await self._inputs.forget([input_id for input_id, _ in batch])
        return more or len(batch) >= _BATCH
