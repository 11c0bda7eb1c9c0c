"""WorkerService: what workers call."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc
from generation_jobs.v1 import worker_service_pb2 as pb
from generation_jobs.v1 import worker_service_pb2_grpc

from job_service.api.caller import principal
from job_service.api.encode import duration, input_message
from job_service.api.lease_messages import (
    REPORT_VERDICTS,
    lease_lost,
    lease_message,
    reported_preview,
    reported_progress,
    verdict_messages,
)
from job_service.api.outcome_calls import OutcomeCalls
from job_service.api.worker_requests import (
    MAX_LEASES,
    catalogues,
    lease_key,
    listed_leases,
    longest_wait,
    packed_signatures,
    reported_leases,
    worker_identity,
    worker_offer,
)
from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.artifacts.result_uploads import ResultUploads
from job_service.events.hub import Hub
from job_service.events.progress_board import ProgressBoard
from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.queue.claim_round import Granted, LeaseCall
from job_service.queue.dispatcher import Dispatcher
from job_service.queue.fleet import Fleet
from job_service.queue.heartbeats import Heartbeats
from job_service.store.completions import CompletionStore
from job_service.store.endings import EndingStore
from job_service.store.inputs import InputRow, InputTable
from job_service.store.lease_key import LeaseEndedError, LeaseKey

Context = grpc.aio.ServicerContext[Any, Any]


class WorkerServicer(OutcomeCalls, worker_service_pb2_grpc.WorkerServiceServicer):
    """Serves workers."""

    def __init__(
        self,
        *,
        installation: UUID,
        fleet: Fleet,
        dispatcher: Dispatcher,
        heartbeats: Heartbeats,
        completions: CompletionStore,
        endings: EndingStore,
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
        self._completions = completions
        self._endings = endings
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
            raise lease_lost(lease) from None
        if asset is None:
            raise RefusedError(
                Refusal.INPUT_NOT_FOUND, f"job {lease.job_id} has no input {request.input_id}"
            )
        yield pb.ReadInputResponse(input=input_message(asset))
        async for chunk in self._objects.read(asset.object_key, limits.MAX_CHUNK_BYTES):
            yield pb.ReadInputResponse(chunk=chunk)

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
