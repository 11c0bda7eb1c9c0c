"""WorkerService: what workers call."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import grpc
from generation_jobs.v1 import job_pb2, worker_service_pb2_grpc
from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.api.caller import principal
from job_service.api.encode import artifact_message, duration, input_message
from job_service.api.lease_messages import (
    REPORT_VERDICTS,
    lease_message,
    reported_preview,
    reported_progress,
    verdict_messages,
)
from job_service.api.upload_stream import chunks, opening
from job_service.api.worker_requests import (
    MAX_LEASES,
    catalogues,
    check_job_error,
    completion,
    lease_key,
    listed_leases,
    longest_wait,
    new_artifact,
    new_artifacts,
    packed_signatures,
    reported_leases,
    retry_after,
    worker_identity,
    worker_offer,
)
from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.artifacts.result_uploads import ResultUploads
from job_service.events.hub import Hub, JobChanged, JobEnded, SweepDue, UpkeepDue, WorkAvailable
from job_service.events.progress_board import ProgressBoard
from job_service.jobs import error_policy, limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.states import STATUS_TO_WIRE
from job_service.queue.claim_round import Granted, LeaseCall
from job_service.queue.dispatcher import Dispatcher
from job_service.queue.fleet import Fleet
from job_service.queue.heartbeats import Heartbeats
from job_service.store.inputs import InputRow, InputTable
from job_service.store.leases import (
    UNSTORED,
    Ended,
    Ending,
    LeaseEndedError,
    LeaseKey,
    LeaseStore,
)

Context = grpc.aio.ServicerContext[Any, Any]


class WorkerServicer(worker_service_pb2_grpc.WorkerServiceServicer):
    """Serves workers."""

    def __init__(
        self,
        *,
        installation: UUID,
        fleet: Fleet,
        dispatcher: Dispatcher,
        heartbeats: Heartbeats,
        leases: LeaseStore,
        board: ProgressBoard,
        uploads: ResultUploads,
        inputs: InputTable,
        objects: ObjectStoreOfArtifacts,
        hub: Hub,
        ttl: timedelta,
        max_artifact_bytes: int,
    ) -> None:
        self._installation = installation
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._heartbeats = heartbeats
        self._leases = leases
        self._board = board
        self._uploads = uploads
        self._inputs = inputs
        self._objects = objects
        self._hub = hub
        self._ttl = ttl
        self._max_artifact_bytes = max_artifact_bytes

    async def LeaseJobs(
        self, request: pb.LeaseJobsRequest, context: Context
    ) -> pb.LeaseJobsResponse:
        checks = FieldChecks()
        name, instance_id = worker_identity(checks, request.worker, principal())
        offered = worker_offer(checks, request.offer)
        checks.integer("max_jobs", request.max_jobs, low=1, high=MAX_LEASES)
        wait = longest_wait(checks, request)
        checks.text("request_id", request.request_id, shortest=1, longest=limits.MAX_REQUEST_ID)
        checks.raise_if_wrong()
        called_at = time.monotonic()
        member = await self._fleet.recognise(name, instance_id)
        self._fleet.refuse_superseded(member)
        await self._fleet.describe(
            member,
            version=request.offer.version,
            backend_labels=offered.backend_labels,
            job_types=offered.job_types,
            backends=[
                {
                    "name": backend.name,
                    "slots": backend.slots,
                    "catalogue_digest": backend.catalogue_digest,
                }
                for backend in request.offer.backends
            ],
        )
        response = pb.LeaseJobsResponse()
        if member.registration.drain_requested:
            response.directives.append(pb.WORKER_DIRECTIVE_DRAIN)
            return response
        digests = {backend.name: backend.digest for backend in offered.backends}
        if not await self._fleet.has_catalogues(member, digests):
            response.directives.append(pb.WORKER_DIRECTIVE_REFRESH_CATALOGUE)
            wait = timedelta()
        call = LeaseCall(
            member,
            offered.backends,
            offered.job_types,
            offered.backend_labels,
            request.max_jobs,
            request.request_id,
        )
        granted = await self._dispatcher.lease(call, wait)
        if not granted:  # perhaps because a newer process has taken over meanwhile, or of a drain
            self._fleet.refuse_superseded(member)
            if member.registration.drain_requested:
                response.directives.append(pb.WORKER_DIRECTIVE_DRAIN)
        # The lease began when it was given; the worker counts from when it asked.
        ttl = self._ttl + timedelta(seconds=time.monotonic() - called_at)
        assets = await self._assets(granted)
        size = 0
        for one in granted:
            lease = lease_message(one, self._installation, ttl, assets)
            size += lease.ByteSize() + 8
            if size > limits.MAX_REPLY_BYTES and response.leases:
                await self._dispatcher.give_back(one.claim.lease)
            else:
                response.leases.append(lease)
        return response

    async def Heartbeat(
        self, request: pb.HeartbeatRequest, context: Context
    ) -> pb.HeartbeatResponse:
        checks = FieldChecks()
        name, instance_id = worker_identity(checks, request.worker, principal())
        listed = listed_leases(checks, request)
        wait = longest_wait(checks, request)
        checks.raise_if_wrong()
        verdicts, directives = await self._heartbeats.beat(
            name, instance_id, listed, draining=request.draining, wait=wait
        )
        return pb.HeartbeatResponse(
            verdicts=verdict_messages(verdicts),
            directives=[pb.WorkerDirective.ValueType(value) for value in sorted(directives)],
            lease_ttl=duration(self._ttl),
        )

    async def ReportProgress(
        self, request: pb.ReportProgressRequest, context: Context
    ) -> pb.ReportProgressResponse:
        checks = FieldChecks()
        worker_identity(checks, request.worker, principal())
        keys = reported_leases(checks, request)
        checks.raise_if_wrong()
        held = await asyncio.gather(
            *(
                self._take_report(key, report)
                for key, report in zip(keys, request.reports, strict=True)
            )
        )
        return pb.ReportProgressResponse(
            verdicts=[
                pb.LeaseVerdict(
                    lease=report.lease,
                    verdict=REPORT_VERDICTS[cancel],
                )
                for report, cancel in zip(request.reports, held, strict=True)
            ]
        )

    async def UploadArtifact(
        self, request: AsyncIterator[pb.UploadArtifactRequest], context: Context
    ) -> pb.UploadArtifactResponse:
        first = await opening(request)
        checks = FieldChecks()
        lease, artifact = new_artifact(checks, "header", first.header, self._max_artifact_bytes)
        checks.raise_if_wrong()
        try:
            stored = await self._uploads.take(lease, artifact, chunks(request))
        except LeaseEndedError:
            raise _lease_lost(lease) from None
        return pb.UploadArtifactResponse(artifact=artifact_message(stored))

    async def UploadArtifacts(
        self, request: pb.UploadArtifactsRequest, context: Context
    ) -> pb.UploadArtifactsResponse:
        checks = FieldChecks()
        lease, artifacts = new_artifacts(checks, request, self._max_artifact_bytes)
        completed = None
        if request.HasField("completion"):
            completed = completion(checks, request.completion, principal(), "completion.")
            if completed.lease != lease:
                checks.wrong("completion.lease", "must be the lease of the files")
        checks.raise_if_wrong()
        contents = (file.content for file in request.files)
        files = list(zip(artifacts, contents, strict=True))
        try:
            if completed is None:
                stored = await self._uploads.take_all(lease, files)
                return pb.UploadArtifactsResponse(artifacts=map(artifact_message, stored))
            stored, ended = await self._uploads.complete(completed, files)
        except LeaseEndedError:
            raise _lease_lost(lease) from None
        return pb.UploadArtifactsResponse(
            artifacts=map(artifact_message, stored),
            completed=self._completed(lease, ended, "completion."),
        )

    async def ReadInput(
        self, request: pb.ReadInputRequest, context: Context
    ) -> AsyncIterator[pb.ReadInputResponse]:
        checks = FieldChecks()
        lease = lease_key(checks, "lease", request.lease)
        checks.integer("input_id", request.input_id, low=1, high=2**63 - 1)
        checks.raise_if_wrong()
        try:
            asset = await self._inputs.of_lease(lease, request.input_id)
        except LeaseEndedError:
            raise _lease_lost(lease) from None
        if asset is None:
            raise RefusedError(
                Refusal.INPUT_NOT_FOUND, f"job {lease.job_id} has no input {request.input_id}"
            )
        yield pb.ReadInputResponse(input=input_message(asset))
        async for chunk in self._objects.read(asset.object_key, limits.MAX_CHUNK_BYTES):
            yield pb.ReadInputResponse(chunk=chunk)

    async def CompleteJob(
        self, request: pb.CompleteJobRequest, context: Context
    ) -> pb.CompleteJobResponse:
        checks = FieldChecks()
        completed = completion(checks, request, principal())
        checks.raise_if_wrong()
        ended = await self._leases.complete(completed)
        return self._completed(completed.lease, ended)

    async def FailJob(self, request: pb.FailJobRequest, context: Context) -> pb.FailJobResponse:
        checks = FieldChecks()
        worker_identity(checks, request.worker, principal())
        lease = lease_key(checks, "lease", request.lease)
        check_job_error(checks, request)
        delay = retry_after(checks, request)
        checks.raise_if_wrong()
        error = error_policy.complete(request.error)
        rule = error_policy.policy(error.code)
        ended = await self._leases.end(
            Ending(
                lease=lease,
                outcome="failed",
                reported_by="fail",
                retry=rule.retry,
                charge=rule.charge,
                forgivable=rule.forgivable,
                delay=delay,
                error=error,
            )
        )
        return pb.FailJobResponse(status=self._announce_end(lease, ended))

    async def ReleaseJob(
        self, request: pb.ReleaseJobRequest, context: Context
    ) -> pb.ReleaseJobResponse:
        checks = FieldChecks()
        worker_identity(checks, request.worker, principal())
        lease = lease_key(checks, "lease", request.lease)
        if request.reason not in _RELEASE_REASONS:
            checks.wrong("reason", f"has the unknown value {request.reason}")
        checks.raise_if_wrong()
        ended = await self._leases.end(
            Ending(
                lease=lease,
                outcome="released",
                reported_by="release",
                retry=True,
                charge=False,
                # A ComfyUI that comes and goes must not have the job go round and round.
                delay=None if request.reason == pb.RELEASE_REASON_BACKEND_GONE else timedelta(),
                adopt_for=self._ttl if request.reason == pb.RELEASE_REASON_DRAINING else None,
            )
        )
        return pb.ReleaseJobResponse(status=self._announce_end(lease, ended))

    async def ReportCatalogue(
        self, request: pb.ReportCatalogueRequest, context: Context
    ) -> pb.ReportCatalogueResponse:
        checks = FieldChecks()
        name, instance_id = worker_identity(checks, request.worker, principal())
        # Some tens of milliseconds for the nodes of a large ComfyUI: not on the event loop.
        reported = await asyncio.to_thread(catalogues, checks, request)
        checks.raise_if_wrong()
        member = await self._fleet.recognise(name, instance_id)
        self._fleet.refuse_superseded(member)
        signatures = await asyncio.to_thread(packed_signatures, request)
        await self._fleet.take_catalogues(member, reported, signatures)
        return pb.ReportCatalogueResponse()

    async def _assets(self, granted: Sequence[Granted]) -> Mapping[int, InputRow]:
        """The inputs that leased jobs name, by id."""
        return await self._inputs.by_id(
            {binding["input_id"] for one in granted for binding in one.claim.job.inputs}
        )

    async def _take_report(self, lease: LeaseKey, report: pb.ProgressReport) -> bool | None:
        return await self._board.report(
            lease,
            reported_progress(report),
            running_for=(
                report.running_for.ToTimedelta() if report.HasField("running_for") else None
            ),
            prompt_id=report.prompt_id,
            preview=reported_preview(lease, report),
        )

    def _completed(self, lease: LeaseKey, ended: Ended, path: str = "") -> pb.CompleteJobResponse:
        if ended.status == UNSTORED:
            checks = FieldChecks()
            unstored = "names an artifact that this attempt has not stored"
            checks.wrong(f"{path}artifact_ids", unstored)
            checks.raise_if_wrong()
        return pb.CompleteJobResponse(status=self._announce_end(lease, ended))

    def _announce_end(self, lease: LeaseKey, ended: Ended) -> "job_pb2.JobStatus.ValueType":
        if ended.status is None:
            raise _lease_lost(lease)
        if ended.changed:
            self._board.forget(lease.job_id)
            self._hub.publish(JobChanged(lease.job_id), JobEnded())
            if ended.status == "pending":
                self._hub.publish(WorkAvailable(), UpkeepDue())
            if ended.deleting or ended.status != "completed":
                self._hub.publish(SweepDue())
        return STATUS_TO_WIRE[ended.status]


_RELEASE_REASONS: Final = frozenset(pb.ReleaseReason.values()) - {pb.RELEASE_REASON_UNSPECIFIED}


def _lease_lost(lease: LeaseKey) -> RefusedError:
    return RefusedError(
        Refusal.LEASE_LOST,
        f"the lease on job {lease.job_id} has ended; nothing was changed",
        metadata={"job_id": str(lease.job_id), "lease_token": str(lease.token)},
    )
