"""The two upload calls' streams: a header, then chunks."""

from collections.abc import AsyncIterator
from typing import TypeVar

from generation_jobs.v1.generation_job_service_pb2 import UploadInputRequest
from generation_jobs.v1.worker_service_pb2 import UploadArtifactRequest

from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks

Upload = TypeVar("Upload", UploadArtifactRequest, UploadInputRequest)


async def opening(request: AsyncIterator[Upload]) -> Upload:
    """The first message, which holds ``header``. Raises RefusedError: INVALID_FIELDS."""
    first = await anext(request, None)
    if first is None or first.WhichOneof("content") != "header":
        checks = FieldChecks()
        checks.wrong("header", "must be the first message")
        checks.raise_if_wrong()
        raise AssertionError("unreachable")
    return first


async def chunks(request: AsyncIterator[Upload]) -> AsyncIterator[bytes]:
    """The bytes of all further messages. Raises RefusedError: INVALID_FIELDS."""
    async for message in request:
        checks = FieldChecks()
        if message.WhichOneof("content") != "chunk":
            checks.wrong("chunk", "must be what every message after the first holds")
        if len(message.chunk) > limits.MAX_CHUNK_BYTES:
            checks.wrong("chunk", f"must have at most {limits.MAX_CHUNK_BYTES:,} bytes")
        checks.raise_if_wrong()
        yield message.chunk
