"""A worker moved by hand: speaks WorkerService to the real job_service, renders nothing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import grpc
from generation_jobs.v1.artifact_pb2 import Artifact, ArtifactRole
from generation_jobs.v1.job_error_pb2 import JobError
from generation_jobs.v1.job_pb2 import ProgressPhase
from generation_jobs.v1.worker_service_pb2 import (
    ArtifactHeader,
    BackendCatalogue,
    BackendOffer,
    CompleteJobRequest,
    FailJobRequest,
    Lease,
    LeaseJobsRequest,
    LeaseRef,
    ProgressReport,
    ReportCatalogueRequest,
    ReportProgressRequest,
    UploadArtifactRequest,
    WorkerIdentity,
    WorkerOffer,
)
from generation_jobs.v1.worker_service_pb2_grpc import WorkerServiceStub
from google.protobuf.duration_pb2 import Duration

CHECKPOINT = "sdxl.safetensors"


class HandWorker:
    """Offers one slot and ``CHECKPOINT``. Its names say what the RPCs of the same name do."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = WorkerServiceStub(channel)
        self._identity = WorkerIdentity(name="hand", instance_id=str(uuid4()))
        self._requests = 0

    async def report_catalogue(self) -> None:
        catalogue = BackendCatalogue(backend="gpu", digest="1", checkpoints=[CHECKPOINT])
        await self._stub.ReportCatalogue(
            ReportCatalogueRequest(worker=self._identity, catalogues=[catalogue])
        )

    async def lease(self) -> Lease:
        """Wait for a job."""
        self._requests += 1
        backend = BackendOffer(name="gpu", slots=1, free_slots=1, catalogue_digest="1")
        response = await self._stub.LeaseJobs(
            LeaseJobsRequest(
                worker=self._identity,
                offer=WorkerOffer(version="1", backends=[backend]),
                max_jobs=1,
                wait=Duration(seconds=30),
                request_id=str(self._requests),
            ),
            timeout=40,
        )
        (lease,) = response.leases
        return lease

    async def report_progress(self, lease: Lease, step: int, steps: int) -> None:
        report = ProgressReport(
            lease=_reference(lease),
            fraction=step / steps,
            phase=ProgressPhase.PROGRESS_PHASE_SAMPLING,
            step=step,
            steps=steps,
            running_for=Duration(seconds=1),
        )
        await self._stub.ReportProgress(
            ReportProgressRequest(worker=self._identity, reports=[report])
        )

    async def upload(self, lease: Lease, content: bytes, **header: int | str) -> Artifact:
        """Store an output, or what ``header`` says it is."""
        described = ArtifactHeader(
            lease=_reference(lease),
            role=ArtifactRole.ARTIFACT_ROLE_OUTPUT,
            filename="picture.png",
            content_type="image/png",
            size=len(content),
            sha256=hashlib.sha256(content).digest(),
            width=64,
            height=64,
        )
        described.MergeFrom(ArtifactHeader(**header))  # type: ignore[arg-type]

        async def messages() -> AsyncIterator[UploadArtifactRequest]:
            yield UploadArtifactRequest(header=described)
            for start in range(0, len(content), 200_000):
                yield UploadArtifactRequest(chunk=content[start : start + 200_000])

        return (await self._stub.UploadArtifact(messages())).artifact

    async def complete(self, lease: Lease, *artifacts: Artifact) -> None:
        await self._stub.CompleteJob(
            CompleteJobRequest(
                worker=self._identity,
                lease=_reference(lease),
                artifact_ids=[artifact.id for artifact in artifacts],
                running_for=Duration(seconds=2),
            )
        )

    async def fail(self, lease: Lease, error: JobError) -> None:
        await self._stub.FailJob(
            FailJobRequest(worker=self._identity, lease=_reference(lease), error=error)
        )

    async def make(self, *pictures: bytes) -> Lease:
        """Run the next job: two steps, then these pictures, each with a thumbnail."""
        lease = await self.lease()
        for step in (1, 2):
            await self.report_progress(lease, step, 2)
        artifacts = []
        for position, content in enumerate(pictures):
            artifacts.append(await self.upload(lease, content, position=position))
            thumbnail = await self.upload(
                lease,
                content[:10],
                position=position,
                role=ArtifactRole.ARTIFACT_ROLE_THUMBNAIL,
                thumbnail_size=150,
                filename="picture.webp",
                content_type="image/webp",
            )
            artifacts.append(thumbnail)
        await self.complete(lease, *artifacts)
        return lease

    def making(self, *pictures: bytes) -> "asyncio.Task[Lease]":
        """Do ``make`` meanwhile."""
        return asyncio.create_task(self.make(*pictures))


def _reference(lease: Lease) -> LeaseRef:
    return LeaseRef(job_id=lease.job_id, lease_token=lease.lease_token)
