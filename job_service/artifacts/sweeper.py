"""Removes what nobody will read any more."""

from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.store.artifacts import ArtifactTable
from job_service.store.inputs import InputTable
from job_service.store.node_signatures import NodeSignatureTable


class Sweeper:
    """Deletes objects first and their rows after, so that a crash in between is made good."""

    def __init__(
        self,
        artifacts: ArtifactTable,
        inputs: InputTable,
        signatures: NodeSignatureTable,
        objects: ObjectStoreOfArtifacts,
    ) -> None:
        self._artifacts = artifacts
        self._inputs = inputs
        self._signatures = signatures
        self._objects = objects

    async def sweep(self) -> None:
        """Remove what is left behind.

        The files of deleted jobs and of attempts that came to nothing, inputs and signatures of
        nodes that nothing refers to.
        """
        while batch := await self._artifacts.sweepable():
            await self._objects.delete([key for _, key in batch])
            await self._artifacts.forget([artifact_id for artifact_id, _ in batch])
        while await self._inputs.retire():
            pass
        while batch := await self._inputs.retired():
            await self._objects.delete([key for _, key in batch])
            await self._inputs.forget([input_id for input_id, _ in batch])
        await self._signatures.sweep()
