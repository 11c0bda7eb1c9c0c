"""The gRPC calls of a worker, authenticated, with their errors sorted."""

import hashlib
from asyncio import to_thread
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import grpc
from generation_jobs.v1 import artifact_pb2, worker_service_pb2_grpc
from generation_jobs.v1 import worker_service_pb2 as pb
from grpc_health.v1 import health_pb2, health_pb2_grpc

from comfy_worker.worker.access import Access
from comfy_worker.worker.contact import Contact
from comfy_worker.worker.service_errors import (
    CallRefusedError,
    ServiceUnavailableError,
    service_error_of,
)

if TYPE_CHECKING:
    from generation_jobs.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

SERVICE: Final = pb.DESCRIPTOR.services_by_name["WorkerService"].full_name
_CALL_SECONDS: Final = 15.0
_LEEWAY_SECONDS: Final = 10.0
"""How much later than its wait a held call is given up."""
_SLOWEST_UPLOAD: Final = 128 * 1024
"""Bytes a second."""
_CHUNK: Final = 256 * 1024
_PING_TIMEOUT_MS: Final = 10_000
_LARGEST_MESSAGE: Final = 8 * 1024 * 1024
_RECONNECTING: Final = (
    # gRPC's own pauses grow to two minutes, longer than a lease lasts: after an outage the
    # worker must be back before its jobs are given to others.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

Answer = TypeVar("Answer")


class JobServiceConnection:
    """Calls job_service as one worker process; an async context manager.

    Silent connections are pinged every ``ping_interval`` seconds. ``contact`` is for whoever
    repeats calls to note how they fare.
    Every method makes one call, unless it says otherwise, and raises the errors in
    ``service_errors``.
    """

    def __init__(
        self, access: Access, worker: pb.WorkerIdentity, ping_interval: float = 30.0
    ) -> None:
        self.worker = worker
        self.contact = Contact()
        self._ping_interval = ping_interval
        self._takes_files_together = True
        self._access = access
        self._channel: grpc.aio.Channel | None = None
        self._stub: WorkerServiceAsyncStub

    async def __aenter__(self) -> Self:
        self._channel = self._access.channel(
            [
                ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
                # A held call is silent: without pings a dead connection would be found by its
                # deadline.
                ("grpc.keepalive_time_ms", round(self._ping_interval * 1000)),
                ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
                ("grpc.http2.max_pings_without_data", 0),
                *_RECONNECTING,
            ]
        )
        self._stub = worker_service_pb2_grpc.WorkerServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def lease_jobs(
        self, offer: pb.WorkerOffer, *, max_jobs: int, wait: float, request_id: str
    ) -> pb.LeaseJobsResponse:
        """Hold until there is work, at most ``wait`` seconds."""
        request = pb.LeaseJobsRequest(
            worker=self.worker, offer=offer, max_jobs=max_jobs, request_id=request_id
        )
        request.wait.FromTimedelta(timedelta(seconds=wait))
        return await _call(
            self._stub.LeaseJobs, request, self._access.metadata, wait + _LEEWAY_SECONDS
        )

    async def heartbeat(
        self, leases: Sequence[pb.LeaseRef], *, wait: float, draining: bool
    ) -> pb.HeartbeatResponse:
        """Renew the leases, then hold until something concerns the worker."""
        request = pb.HeartbeatRequest(worker=self.worker, leases=leases, draining=draining)
        request.wait.FromTimedelta(timedelta(seconds=wait))
        return await _call(
            self._stub.Heartbeat, request, self._access.metadata, wait + _LEEWAY_SECONDS
        )

    async def report_progress(
        self, reports: Sequence[pb.ProgressReport]
    ) -> pb.ReportProgressResponse:
        """Report on several leases at once."""
        request = pb.ReportProgressRequest(worker=self.worker, reports=reports)
        return await _call(self._stub.ReportProgress, request, self._access.metadata, _CALL_SECONDS)

    async def upload(self, header: pb.ArtifactHeader, content: Path | bytes) -> int:
        """Upload a file and return the artifact's id."""
        seconds = _CALL_SECONDS + header.size / _SLOWEST_UPLOAD
        answer = await _call(
            self._stub.UploadArtifact, _messages(header, content), self._access.metadata, seconds
        )
        return answer.artifact.id

    async def upload_together(
        self, files: Sequence[tuple[pb.ArtifactHeader, bytes]]
    ) -> list[int] | None:
        """Upload files that fit one message and return the artifacts' ids, in their order.

        None: this job_service is older than the call, and takes files one by one.
        """
        answer = await self._upload_artifacts(files, None)
        return None if answer is None else [artifact.id for artifact in answer.artifacts]

    async def read_input(
        self, lease: pb.LeaseRef, asset: artifact_pb2.InputAsset, destination: Path
    ) -> None:
        """Write an input of a leased job to ``destination``, which is overwritten.

        Raises ServiceUnavailableError with status DATA_LOSS for other bytes than ``asset``
        announces; whatever was written remains then. Never writes more than it announces.
        """
        request = pb.ReadInputRequest(lease=lease, input_id=asset.id)
        seconds = _CALL_SECONDS + asset.size / _SLOWEST_UPLOAD
        digest, size = hashlib.sha256(), 0
        call = self._stub.ReadInput(request, metadata=self._access.metadata, timeout=seconds)
        try:
            with await to_thread(destination.open, "wb") as target:
                async for message in call:
                    size += len(message.chunk)
                    if size > asset.size:
                        break
                    digest.update(message.chunk)
                    await to_thread(target.write, message.chunk)
        except grpc.aio.AioRpcError as error:
            raise service_error_of(error) from error
        finally:
            call.cancel()
        if size != asset.size or digest.digest() != asset.sha256:
            raise ServiceUnavailableError(
                grpc.StatusCode.DATA_LOSS, "", f"input {asset.id} came with other bytes"
            )

    async def complete_job(
        self,
        request: pb.CompleteJobRequest,
        files: Sequence[tuple[pb.ArtifactHeader, bytes]] = (),
    ) -> None:
        """Report success, together with the last files of the job: so many as fit one message.

        A job_service that is older than that takes more than one call.
        """
        if files:
            answer = await self._upload_artifacts(files, request)
            if answer is not None and answer.HasField("completed"):
                return
            if answer is None:
                ids = [await self.upload(header, content) for header, content in files]
            else:
                ids = [artifact.id for artifact in answer.artifacts]
            earlier, request = request, pb.CompleteJobRequest()
            request.CopyFrom(earlier)
            request.artifact_ids.extend(ids)
        await _call(self._stub.CompleteJob, request, self._access.metadata, _CALL_SECONDS)

    async def fail_job(self, request: pb.FailJobRequest) -> None:
        """Report a failure."""
        await _call(self._stub.FailJob, request, self._access.metadata, _CALL_SECONDS)

    async def release_job(self, lease: pb.LeaseRef, reason: pb.ReleaseReason.ValueType) -> None:
        """Give a job back."""
        request = pb.ReleaseJobRequest(worker=self.worker, lease=lease, reason=reason)
        await _call(self._stub.ReleaseJob, request, self._access.metadata, _CALL_SECONDS)

    async def report_catalogue(self, catalogue: pb.BackendCatalogue) -> None:
        """Report what one ComfyUI offers."""
        request = pb.ReportCatalogueRequest(worker=self.worker, catalogues=[catalogue])
        await _call(self._stub.ReportCatalogue, request, self._access.metadata, _CALL_SECONDS)

    async def is_serving(self) -> bool:
        """Whether job_service says that it serves workers."""
        stub: Any = health_pb2_grpc.HealthStub(self._open_channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        answer = await _call(stub.Check, request, self._access.metadata, _CALL_SECONDS)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _upload_artifacts(
        self,
        files: Sequence[tuple[pb.ArtifactHeader, bytes]],
        completion: pb.CompleteJobRequest | None,
    ) -> pb.UploadArtifactsResponse | None:
        """None: not served."""
        if not self._takes_files_together:
            return None
        request = pb.UploadArtifactsRequest(
            files=[pb.ArtifactFile(header=header, content=content) for header, content in files],
            completion=completion,
        )
        seconds = _CALL_SECONDS + request.ByteSize() / _SLOWEST_UPLOAD
        try:
            return await _call(self._stub.UploadArtifacts, request, self._access.metadata, seconds)
        except CallRefusedError as error:
            if error.status is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            self._takes_files_together = False
            return None

    @property
    def _open_channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("used outside its async with block")
        return self._channel


async def _call(
    method: Callable[..., Awaitable[Answer]],
    request: Any,
    metadata: Sequence[tuple[str, str]],
    seconds: float,
) -> Answer:
    try:
        return await method(request, metadata=metadata, timeout=seconds)
    except grpc.aio.AioRpcError as error:
        raise service_error_of(error) from error


async def _messages(
    header: pb.ArtifactHeader, content: Path | bytes
) -> AsyncIterator[pb.UploadArtifactRequest]:
    yield pb.UploadArtifactRequest(header=header)
    if isinstance(content, bytes):
        for start in range(0, len(content), _CHUNK):
            yield pb.UploadArtifactRequest(chunk=content[start : start + _CHUNK])
        return
    with await to_thread(content.open, "rb") as source:
        # To the announced size and no further: each look is a way to a thread and back.
        for _ in range(0, header.size, _CHUNK):
            yield pb.UploadArtifactRequest(chunk=await to_thread(source.read, _CHUNK))
