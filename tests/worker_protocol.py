"""WorkerService as a worker speaks it, one call at a time: nothing happens that a test does not do.

What a call answers is returned as it is; errors are grpc.aio.AioRpcError.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
from generation_jobs.v1 import artifact_pb2, job_error_pb2, job_pb2, worker_service_pb2_grpc
from generation_jobs.v1 import worker_service_pb2 as pb
from google.protobuf import duration_pb2

if TYPE_CHECKING:
    from generation_jobs.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

CHECKPOINT = "sdxl.safetensors"


class ProtocolWorker:
    """One worker process with a ComfyUI for each of ``backends``, all offering the same."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        name: str = "box-1",
        *,
        backends: Sequence[str] = ("gpu0",),
        checkpoints: Sequence[str] = (CHECKPOINT,),
        loras: Sequence[str] = (),
        slots: int = 8,
    ) -> None:
        self.stub: WorkerServiceAsyncStub = worker_service_pb2_grpc.WorkerServiceStub(channel)
        self.identity = pb.WorkerIdentity(name=name, instance_id=str(uuid4()))
        self.slots = slots
        self.offer = pb.WorkerOffer(version="1.0")
        self._backends = tuple(backends)
        self.offers(checkpoints, loras)

    def offers(self, checkpoints: Sequence[str], loras: Sequence[str] = ()) -> None:
        """Offer these models from now on; the service learns it from ``report_catalogue``."""
        digest = hashlib.sha256(repr((checkpoints, loras)).encode()).hexdigest()[:16]
        self.catalogues = [
            pb.BackendCatalogue(backend=name, digest=digest, checkpoints=checkpoints, loras=loras)
            for name in self._backends
        ]

    def successor(self, channel: grpc.aio.Channel) -> "ProtocolWorker":
        """The same worker, restarted: the same name and ComfyUIs, a new instance."""
        started = ProtocolWorker(channel, self.identity.name, backends=self._backends)
        started.catalogues = self.catalogues
        started.slots = self.slots
        return started

    async def report_catalogue(self) -> None:
        await self.stub.ReportCatalogue(
            pb.ReportCatalogueRequest(worker=self.identity, catalogues=self.catalogues), timeout=20
        )

    def lease_request(
        self,
        max_jobs: int = 1,
        *,
        wait: float = 20,
        request_id: str | None = None,
        free_slots: int | None = None,
    ) -> pb.LeaseJobsRequest:
        offer = pb.WorkerOffer()
        offer.CopyFrom(self.offer)
        for catalogue in self.catalogues:
            offer.backends.add(
                name=catalogue.backend,
                slots=self.slots,
                free_slots=self.slots if free_slots is None else free_slots,
                catalogue_digest=catalogue.digest,
            )
        return pb.LeaseJobsRequest(
            worker=self.identity,
            offer=offer,
            max_jobs=max_jobs,
            wait=seconds(wait),
            request_id=str(uuid4()) if request_id is None else request_id,
        )

    async def ask(self, max_jobs: int = 1, **options: Any) -> pb.LeaseJobsResponse:
        """The whole answer of LeaseJobs; ``options`` as for ``lease_request``."""
        return await self.stub.LeaseJobs(self.lease_request(max_jobs, **options), timeout=40)

    async def lease(self, max_jobs: int = 1, **options: Any) -> list[pb.Lease]:
        """Wait for work."""
        return list((await self.ask(max_jobs, **options)).leases)

    async def lease_one(self, **options: Any) -> pb.Lease:
        """Wait for one job, which must come."""
        (lease,) = await self.lease(**options)
        return lease

    async def beat(
        self, *leases: pb.Lease, wait: float = 0, draining: bool = False
    ) -> pb.HeartbeatResponse:
        request = pb.HeartbeatRequest(
            worker=self.identity,
            leases=map(ref, leases),
            wait=seconds(wait),
            draining=draining,
        )
        return await self.stub.Heartbeat(request, timeout=40)

    async def progress(
        self, lease: pb.Lease, fraction: float = 0.5, **fields: Any
    ) -> "pb.Verdict.ValueType":
        fields.setdefault("phase", job_pb2.PROGRESS_PHASE_SAMPLING)
        report = pb.ProgressReport(lease=ref(lease), fraction=fraction, **fields)
        answer = await self.stub.ReportProgress(
            pb.ReportProgressRequest(worker=self.identity, reports=[report]), timeout=20
        )
        (verdict,) = answer.verdicts
        assert verdict.lease == ref(lease)
        return verdict.verdict

    async def upload(
        self, lease: pb.Lease, content: bytes, *, chunk: int = 256 * 1024, **header: Any
    ) -> artifact_pb2.Artifact:
        """Upload ``content`` as the first output, or as what ``header`` says."""
        described = artifact_header(lease, content, **header)
        return await self.send(
            pb.UploadArtifactRequest(header=described),
            *(
                pb.UploadArtifactRequest(chunk=content[start : start + chunk])
                for start in range(0, len(content), chunk)
            ),
        )

    async def send(self, *messages: pb.UploadArtifactRequest) -> artifact_pb2.Artifact:
        """UploadArtifact with these messages."""
        answer = await self.stub.UploadArtifact(_stream(messages), timeout=40)
        return answer.artifact

    async def upload_together(self, *files: pb.ArtifactFile) -> list[artifact_pb2.Artifact]:
        """UploadArtifacts with these files."""
        request = pb.UploadArtifactsRequest(files=files)
        return list((await self.stub.UploadArtifacts(request, timeout=40)).artifacts)

    async def complete(
        self, lease: pb.Lease, *artifacts: artifact_pb2.Artifact, **fields: Any
    ) -> "job_pb2.JobStatus.ValueType":
        request = self.completion(lease, *artifacts, **fields)
        return (await self.stub.CompleteJob(request, timeout=20)).status

    def completion(
        self, held: pb.Lease, *artifacts: artifact_pb2.Artifact, **fields: Any
    ) -> pb.CompleteJobRequest:
        """A request of CompleteJob; ``fields`` may replace whatever it would say."""
        said: dict[str, Any] = {
            "worker": self.identity,
            "lease": ref(held),
            "artifact_ids": [artifact.id for artifact in artifacts],
        }
        return pb.CompleteJobRequest(**{**said, **fields})

    async def complete_with(
        self,
        held: pb.Lease,
        files: Sequence[pb.ArtifactFile],
        *earlier: artifact_pb2.Artifact,
        **fields: Any,
    ) -> pb.UploadArtifactsResponse:
        """UploadArtifacts with these files and the completion of their job."""
        request = pb.UploadArtifactsRequest(
            files=files, completion=self.completion(held, *earlier, **fields)
        )
        return await self.stub.UploadArtifacts(request, timeout=40)

    async def fail(
        self,
        lease: pb.Lease,
        code: "job_error_pb2.ErrorCode.ValueType" = job_error_pb2.ERROR_CODE_INTERNAL,
        *,
        retry_after: float | None = None,
        **error: Any,
    ) -> "job_pb2.JobStatus.ValueType":
        request = pb.FailJobRequest(
            worker=self.identity,
            lease=ref(lease),
            error=job_error_pb2.JobError(code=code, **error),
            retry_after=None if retry_after is None else seconds(retry_after),
        )
        return (await self.stub.FailJob(request, timeout=20)).status

    async def release(
        self,
        lease: pb.Lease,
        reason: "pb.ReleaseReason.ValueType" = pb.RELEASE_REASON_DRAINING,
    ) -> "job_pb2.JobStatus.ValueType":
        request = pb.ReleaseJobRequest(worker=self.identity, lease=ref(lease), reason=reason)
        return (await self.stub.ReleaseJob(request, timeout=20)).status


def ref(lease: pb.Lease) -> pb.LeaseRef:
    """What names a lease in later calls."""
    return pb.LeaseRef(job_id=lease.job_id, lease_token=lease.lease_token)


def verdicts(answer: pb.HeartbeatResponse) -> dict[str, "pb.Verdict.ValueType"]:
    """Verdicts by lease token."""
    return {verdict.lease.lease_token: verdict.verdict for verdict in answer.verdicts}


def artifact_header(lease: pb.Lease, content: bytes, **fields: Any) -> pb.ArtifactHeader:
    """What a worker says of a picture it uploads."""
    said: dict[str, Any] = {
        "role": artifact_pb2.ARTIFACT_ROLE_OUTPUT,
        "filename": "picture.png",
        "content_type": "image/png",
        "size": len(content),
        "sha256": hashlib.sha256(content).digest(),
        "width": 832,
        "height": 1216,
        "node_id": "9",
    }
    return pb.ArtifactHeader(lease=ref(lease), **{**said, **fields})


def artifact_file(lease: pb.Lease, content: bytes, **fields: Any) -> pb.ArtifactFile:
    """A file for ``upload_together``; ``fields`` as of its header."""
    return pb.ArtifactFile(header=artifact_header(lease, content, **fields), content=content)


def thumbnail(size: int, position: int = 0) -> dict[str, Any]:
    """Header fields of a thumbnail."""
    return {
        "role": artifact_pb2.ARTIFACT_ROLE_THUMBNAIL,
        "position": position,
        "thumbnail_size": size,
        "filename": "picture.webp",
        "content_type": "image/webp",
    }


def seconds(span: float) -> duration_pb2.Duration:
    """A span of time."""
    message = duration_pb2.Duration()
    message.FromTimedelta(timedelta(seconds=span))
    return message


async def _stream(
    messages: Iterable[pb.UploadArtifactRequest],
) -> AsyncIterator[pb.UploadArtifactRequest]:
    for message in messages:
        yield message
