"""The artifact and input calls of GenerationJobService."""

import unicodedata
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb

from job_service.api.caller import principal
from job_service.api.encode import artifact_message, input_message, timestamp
from job_service.api.upload_stream import chunks, opening
from job_service.artifacts.input_uploads import InputUploads
from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.validation import owner
from job_service.store.artifacts import ArtifactRow, ArtifactTable

Context = grpc.aio.ServicerContext[Any, Any]


class ArtifactCalls:
    """Hands out what jobs made, and takes pictures that jobs start from.

    The servicer sets ``_artifacts``, ``_objects`` and ``_uploads``.
    """

    _artifacts: ArtifactTable
    _objects: ObjectStoreOfArtifacts
    _uploads: InputUploads

    async def ReadArtifact(
        self, request: pb.ReadArtifactRequest, context: Context
    ) -> AsyncIterator[pb.ReadArtifactResponse]:
        artifact = await self._artifact(request, FieldChecks())
        yield pb.ReadArtifactResponse(artifact=artifact_message(artifact))
        async for chunk in self._objects.read(artifact.object_key, limits.MAX_CHUNK_BYTES):
            yield pb.ReadArtifactResponse(chunk=chunk)

    async def GetArtifactUrl(
        self, request: pb.GetArtifactUrlRequest, context: Context
    ) -> pb.GetArtifactUrlResponse:
        checks = FieldChecks()
        lifetime = limits.DEFAULT_URL_LIFETIME
        if request.HasField("lifetime"):
            lifetime = checks.duration(
                "lifetime",
                request.lifetime,
                low=limits.MIN_URL_LIFETIME,
                high=limits.MAX_URL_LIFETIME,
            )
        artifact = await self._artifact(request, checks)
        # Counted from before the signature, so that the URL works at least that long.
        expires_at = datetime.now(UTC) + lifetime
        url = await self._objects.signed_url(artifact.object_key, lifetime)
        return pb.GetArtifactUrlResponse(url=url, expires_at=timestamp(expires_at))

    async def _artifact(
        self, request: pb.ReadArtifactRequest | pb.GetArtifactUrlRequest, checks: FieldChecks
    ) -> ArtifactRow:
        caller = principal()
        checks.integer("artifact_id", request.artifact_id, low=1, high=2**63 - 1)
        if request.thumbnail_size and request.thumbnail_size not in limits.THUMBNAIL_SIZES:
            sizes = ", ".join(map(str, limits.THUMBNAIL_SIZES))
            checks.wrong("thumbnail_size", f"must be 0 or one of {sizes}")
        checks.raise_if_wrong()
        artifact = await self._artifacts.get(
            request.artifact_id, request.thumbnail_size, caller.visible_user
        )
        if artifact is None:
            raise RefusedError(
                Refusal.ARTIFACT_NOT_FOUND, f"there is no artifact {request.artifact_id}"
            )
        if artifact.sha256 is None:
            location = artifact.external_location or ""
            raise RefusedError(
                Refusal.ARTIFACT_EXTERNAL,
                f"artifact {artifact.id} is not in the artifact store, but where the former system "
                f"left it: {location}",
                metadata={"location": location},
            )
        return artifact

    async def UploadInput(
        self, request: AsyncIterator[pb.UploadInputRequest], context: Context
    ) -> pb.UploadInputResponse:
        caller = principal()
        header = (await opening(request)).header
        checks = FieldChecks()
        filename = checks.filename("header.filename", header.filename)
        if any(unicodedata.category(character) == "Cc" for character in filename):
            checks.wrong("header.filename", "must not contain control characters")
        user_id = owner(checks, "header.user_id", header.user_id, caller)
        checks.raise_if_wrong()
        stored = await self._uploads.take(user_id, filename, chunks(request))
        return pb.UploadInputResponse(input=input_message(stored))
