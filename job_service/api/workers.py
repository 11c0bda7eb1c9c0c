"""WorkerService: what workers call."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import grpc
from generation_jobs.v1 import generation_job_service_pb2, job_pb2, worker_service_pb2_grpc
from generation_jobs.v1 import worker_service_pb2 as pb
from google.protobuf import json_format

from job_service.api.caller import require_role
from job_service.api.encode import artifact_message, duration, job_message
from job_service.artifacts.objects import ContentMismatchError, ObjectStoreOfArtifacts
from job_service.events.hub import Hub, JobChanged, JobEnded, UpkeepDue, WorkAvailable
from job_service.events.progress_board import ProgressBoard
from job_service.jobs import error_policy, limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.principal import Role
from job_service.jobs.prompt_id import prompt_id
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.states import ROLE_FROM_WIRE, STATUS_TO_WIRE, TYPE_FROM_WIRE
from job_service.queue.claim_round import Granted, LeaseCall, WaitingBackend
from job_service.queue.dispatcher import Dispatcher
from job_service.queue.fleet import Fleet, Member
from job_service.queue.heartbeats import Heartbeats, Verdicts
from job_service.store.artifacts import ArtifactTable, NewArtifact
from job_service.store.leases import (
    UNSTORED,
    Completion,
    Ended,
    Ending,
    LeaseKey,
    LeaseStore,
)
from job_service.store.workers import Catalogue

Context = grpc.aio.ServicerContext[Any, Any]

_MAX_LEASES: Final = 64
_MAX_BACKENDS: Final = 64
_MAX_LISTED: Final = 1024
_LONGEST_WAIT: Final = timedelta(seconds=60)
_LONGEST_RETRY: Final = timedelta(days=1)
_LONGEST_RUN: Final = timedelta(days=7)
_LONGEST_REMAINING: Final = timedelta(days=365)
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")
_REPORT_VERDICTS: Final[Mapping[bool | None, "pb.Verdict.ValueType"]] = {
    None: pb.VERDICT_LOST,
    True: pb.VERDICT_CANCEL,
    False: pb.VERDICT_CONTINUE,
}


@dataclass(frozen=True, slots=True)
class _Offered:
    job_types: list[str]
    backend_labels: list[str]
    backends: list[WaitingBackend]


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
        artifacts: ArtifactTable,
        objects: ObjectStoreOfArtifacts,
        hub: Hub,
        ttl: timedelta,
    ) -> None:
        self._installation = installation
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._heartbeats = heartbeats
        self._leases = leases
        self._board = board
        self._artifacts = artifacts
        self._objects = objects
        self._hub = hub
        self._ttl = ttl

    async def LeaseJobs(
        self, request: pb.LeaseJobsRequest, context: Context
    ) -> pb.LeaseJobsResponse:
        _worker()
        checks = FieldChecks()
        name, instance_id = _identity(checks, request.worker)
        offered = _offer(checks, request.offer)
        checks.integer("max_jobs", request.max_jobs, low=1, high=_MAX_LEASES)
        wait = checks.duration("wait", request.wait, low=timedelta(), high=_LONGEST_WAIT)
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
        if self._unknown_catalogues(member, offered):
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
        size = 0
        for one in granted:
            lease = self._lease(one, ttl)
            size += lease.ByteSize() + 8
            if size > limits.MAX_REPLY_BYTES and response.leases:
                await self._dispatcher.give_back(one.claim.lease)
            else:
                response.leases.append(lease)
        return response

    async def Heartbeat(
        self, request: pb.HeartbeatRequest, context: Context
    ) -> pb.HeartbeatResponse:
        _worker()
        checks = FieldChecks()
        name, instance_id = _identity(checks, request.worker)
        if len(request.leases) > _MAX_LISTED:
            checks.wrong("leases", f"must have at most {_MAX_LISTED} entries")
        listed = [
            _lease_key(checks, f"leases[{index}]", lease)
            for index, lease in enumerate(request.leases[:_MAX_LISTED])
        ]
        wait = checks.duration("wait", request.wait, low=timedelta(), high=_LONGEST_WAIT)
        checks.raise_if_wrong()
        verdicts, directives = await self._heartbeats.beat(
            name, instance_id, listed, draining=request.draining, wait=wait
        )
        return pb.HeartbeatResponse(
            verdicts=_verdicts(verdicts),
            directives=[pb.WorkerDirective.ValueType(value) for value in sorted(directives)],
            lease_ttl=duration(self._ttl),
        )

    async def ReportProgress(
        self, request: pb.ReportProgressRequest, context: Context
    ) -> pb.ReportProgressResponse:
        _worker()
        checks = FieldChecks()
        _identity(checks, request.worker)
        if len(request.reports) > _MAX_LISTED:
            checks.wrong("reports", f"must have at most {_MAX_LISTED} entries")
        reports = list(request.reports[:_MAX_LISTED])
        keys = [_report(checks, f"reports[{n}]", report) for n, report in enumerate(reports)]
        checks.raise_if_wrong()
        held = await asyncio.gather(
            *(self._take_report(key, report) for key, report in zip(keys, reports, strict=True))
        )
        return pb.ReportProgressResponse(
            verdicts=[
                pb.LeaseVerdict(
                    lease=report.lease,
                    verdict=_REPORT_VERDICTS[cancel],
                )
                for report, cancel in zip(reports, held, strict=True)
            ]
        )

    async def UploadArtifact(
        self, request: AsyncIterator[pb.UploadArtifactRequest], context: Context
    ) -> pb.UploadArtifactResponse:
        _worker()
        first = await anext(request, None)
        checks = FieldChecks()
        if first is None or first.WhichOneof("content") != "header":
            checks.wrong("header", "must be the first message")
            checks.raise_if_wrong()
            raise AssertionError("unreachable")
        lease, artifact = _header(checks, first.header)
        checks.raise_if_wrong()
        announced = await self._artifacts.announce(lease, artifact)
        if announced is None:
            raise _lease_lost(lease)
        try:
            await self._objects.put(
                announced.object_key,
                _chunks(request),
                size=artifact.size,
                sha256=artifact.sha256,
            )
        except ContentMismatchError as error:
            raise RefusedError(Refusal.CONTENT_MISMATCH, str(error)) from error
        stored = await self._artifacts.stored(lease, announced.id)
        if stored is None:
            if not await self._artifacts.is_known(announced.id):
                # Swept before the bytes were here: nobody else will remove them.
                await self._objects.delete([announced.object_key])
            raise _lease_lost(lease)
        return pb.UploadArtifactResponse(artifact=artifact_message(stored))

    async def CompleteJob(
        self, request: pb.CompleteJobRequest, context: Context
    ) -> pb.CompleteJobResponse:
        _worker()
        checks = FieldChecks()
        _identity(checks, request.worker)
        lease = _lease_key(checks, "lease", request.lease)
        running_for = _running_for(checks, "running_for", request)
        checks.text("prompt_id", request.prompt_id, longest=limits.MAX_NAME)
        checks.raise_if_wrong()
        ended = await self._leases.complete(
            Completion(lease, request.artifact_ids, running_for, request.prompt_id)
        )
        if ended.status == UNSTORED:
            checks.wrong("artifact_ids", "names an artifact that this attempt has not stored")
            checks.raise_if_wrong()
        return pb.CompleteJobResponse(status=self._announce_end(lease, ended))

    async def FailJob(self, request: pb.FailJobRequest, context: Context) -> pb.FailJobResponse:
        _worker()
        checks = FieldChecks()
        _identity(checks, request.worker)
        lease = _lease_key(checks, "lease", request.lease)
        _job_error(checks, request)
        retry_after = None
        if request.HasField("retry_after"):
            retry_after = checks.duration(
                "retry_after", request.retry_after, low=timedelta(), high=_LONGEST_RETRY
            )
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
                delay=retry_after,
                error=error,
            )
        )
        return pb.FailJobResponse(status=self._announce_end(lease, ended))

    async def ReleaseJob(
        self, request: pb.ReleaseJobRequest, context: Context
    ) -> pb.ReleaseJobResponse:
        _worker()
        checks = FieldChecks()
        _identity(checks, request.worker)
        lease = _lease_key(checks, "lease", request.lease)
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
        _worker()
        checks = FieldChecks()
        name, instance_id = _identity(checks, request.worker)
        if not 1 <= len(request.catalogues) <= _MAX_BACKENDS:
            checks.wrong("catalogues", f"must have 1 to {_MAX_BACKENDS} entries")
        catalogues = [
            _catalogue(checks, f"catalogues[{index}]", catalogue)
            for index, catalogue in enumerate(request.catalogues[:_MAX_BACKENDS])
        ]
        checks.raise_if_wrong()
        member = await self._fleet.recognise(name, instance_id)
        self._fleet.refuse_superseded(member)
        await self._fleet.take_catalogues(member, catalogues)
        return pb.ReportCatalogueResponse()

    def _unknown_catalogues(self, member: Member, offered: _Offered) -> bool:
        return any(
            backend.name not in member.catalogues
            or member.catalogues[backend.name].digest != backend.digest
            for backend in offered.backends
        )

    def _lease(self, granted: Granted, ttl: timedelta) -> pb.Lease:
        job = granted.claim.job
        return pb.Lease(
            job_id=job.id,
            lease_token=str(granted.claim.lease.token),
            attempt=job.attempt,
            ttl=duration(ttl),
            job=job_message(job),
            backend=granted.backend,
            prompt_id=prompt_id(self._installation, job.id, job.attempt),
            prior_prompts=[
                pb.PriorPrompt(
                    attempt=attempt, prompt_id=prompt_id(self._installation, job.id, attempt)
                )
                for attempt in granted.claim.prior_attempts
            ],
        )

    async def _take_report(self, lease: LeaseKey, report: pb.ProgressReport) -> bool | None:
        preview = None
        if report.HasField("preview"):
            preview = generation_job_service_pb2.Preview(
                job_id=lease.job_id,
                content_type=report.preview.content_type,
                data=report.preview.data,
            )
        return await self._board.report(
            lease,
            job_pb2.JobProgress(
                fraction=report.fraction,
                phase=report.phase,
                node_id=report.node_id,
                node_class=report.node_class,
                step=report.step,
                steps=report.steps,
                remaining=report.remaining if report.HasField("remaining") else None,
            ),
            running_for=(
                report.running_for.ToTimedelta() if report.HasField("running_for") else None
            ),
            prompt_id=report.prompt_id,
            preview=preview,
        )

    def _announce_end(self, lease: LeaseKey, ended: Ended) -> "job_pb2.JobStatus.ValueType":
        if ended.status is None:
            raise _lease_lost(lease)
        if ended.changed:
            self._board.forget(lease.job_id)
            self._hub.publish(JobChanged(lease.job_id), JobEnded())
            if ended.status == "pending":
                self._hub.publish(WorkAvailable(), UpkeepDue())
            if ended.deleting or ended.status == "cancelled":
                self._hub.publish(UpkeepDue())
        return STATUS_TO_WIRE[ended.status]


_RELEASE_REASONS: Final = frozenset(pb.ReleaseReason.values()) - {pb.RELEASE_REASON_UNSPECIFIED}


def _worker() -> None:
    require_role(Role.WORKER)


def _lease_lost(lease: LeaseKey) -> RefusedError:
    return RefusedError(
        Refusal.LEASE_LOST,
        f"the lease on job {lease.job_id} has ended; nothing was changed",
        metadata={"job_id": str(lease.job_id), "lease_token": str(lease.token)},
    )


def _word(checks: FieldChecks, path: str, value: str) -> str:
    """A name of letters, digits, ".", "-" and "_"."""
    checks.text(path, value, shortest=1, longest=limits.MAX_WORD)
    if not _NAME.issuperset(value):
        checks.wrong(path, 'must consist of letters, digits, ".", "-" and "_"')
    return value


def _identity(checks: FieldChecks, worker: pb.WorkerIdentity) -> tuple[str, UUID]:
    name = _word(checks, "worker.name", worker.name)
    return name, checks.uuid("worker.instance_id", worker.instance_id) or UUID(int=0)


def _lease_key(checks: FieldChecks, path: str, lease: pb.LeaseRef) -> LeaseKey:
    checks.integer(f"{path}.job_id", lease.job_id, low=1, high=2**63 - 1)
    token = checks.uuid(f"{path}.lease_token", lease.lease_token)
    return LeaseKey(lease.job_id, token or UUID(int=0))


def _offer(checks: FieldChecks, offer: pb.WorkerOffer) -> _Offered:
    checks.text("offer.version", offer.version, longest=limits.MAX_WORD)
    for kind in ("backend_labels", "job_types"):
        if len(getattr(offer, kind)) > limits.MAX_CHOICES:
            checks.wrong(f"offer.{kind}", f"must have at most {limits.MAX_CHOICES} entries")
    for index, label in enumerate(offer.backend_labels[: limits.MAX_CHOICES]):
        checks.text(f"offer.backend_labels[{index}]", label, shortest=1, longest=limits.MAX_WORD)
    job_types = [
        # A type that only a newer service knows is not offered to this one.
        TYPE_FROM_WIRE[job_type]
        for job_type in offer.job_types
        if job_type in TYPE_FROM_WIRE
    ]
    if len(offer.backends) > _MAX_BACKENDS:
        checks.wrong("offer.backends", f"must have at most {_MAX_BACKENDS} entries")
    backends = []
    for index, backend in enumerate(offer.backends[:_MAX_BACKENDS]):
        path = f"offer.backends[{index}]"
        _word(checks, f"{path}.name", backend.name)
        checks.integer(f"{path}.slots", backend.slots, low=0, high=1024)
        checks.integer(f"{path}.free_slots", backend.free_slots, low=0, high=1024)
        checks.text(f"{path}.catalogue_digest", backend.catalogue_digest, longest=64)
        checks.text(f"{path}.loaded_checkpoint", backend.loaded_checkpoint, longest=limits.MAX_NAME)
        backends.append(
            WaitingBackend(
                backend.name,
                backend.catalogue_digest,
                backend.free_slots,
                backend.loaded_checkpoint,
            )
        )
    return _Offered(
        job_types=job_types or ["image"],
        backend_labels=list(offer.backend_labels) or [limits.DEFAULT_BACKEND],
        backends=backends,
    )


def _verdicts(verdicts: Verdicts) -> Sequence[pb.LeaseVerdict]:
    return [
        pb.LeaseVerdict(
            lease=pb.LeaseRef(job_id=lease.job_id, lease_token=str(lease.token)), verdict=verdict
        )
        for lease, verdict in verdicts.items()
    ]


def _report(checks: FieldChecks, path: str, report: pb.ProgressReport) -> LeaseKey:
    checks.number(f"{path}.fraction", report.fraction, low=0, high=1)
    checks.text(f"{path}.node_id", report.node_id, longest=limits.MAX_NAME)
    checks.text(f"{path}.node_class", report.node_class, longest=limits.MAX_NAME)
    checks.text(f"{path}.prompt_id", report.prompt_id, longest=limits.MAX_NAME)
    _running_for(checks, f"{path}.running_for", report)
    if report.HasField("remaining"):
        checks.duration(
            f"{path}.remaining", report.remaining, low=timedelta(), high=_LONGEST_REMAINING
        )
    if len(report.preview.data) > limits.MAX_PREVIEW_BYTES:
        checks.wrong(f"{path}.preview.data", f"has more than {limits.MAX_PREVIEW_BYTES:,} bytes")
    return _lease_key(checks, f"{path}.lease", report.lease)


def _running_for(
    checks: FieldChecks, path: str, message: pb.ProgressReport | pb.CompleteJobRequest
) -> timedelta | None:
    if not message.HasField("running_for"):
        return None
    return checks.duration(path, message.running_for, low=timedelta(), high=_LONGEST_RUN)


def _header(checks: FieldChecks, header: pb.ArtifactHeader) -> tuple[LeaseKey, NewArtifact]:
    role = checks.enum("header.role", header.role, ROLE_FROM_WIRE) or ""
    filename = checks.text("header.filename", header.filename, shortest=1, longest=limits.MAX_NAME)
    if "/" in filename or "\\" in filename:
        checks.wrong("header.filename", "must not name a folder")
    if len(header.sha256) != 32:
        checks.wrong("header.sha256", f"must have 32 bytes, has {len(header.sha256)}")
    if (role == "thumbnail") != (header.thumbnail_size > 0):
        checks.wrong("header.thumbnail_size", "is for thumbnails, and thumbnails have one")
    artifact = NewArtifact(
        role=role,
        position=checks.integer("header.position", header.position, low=0, high=9_999),
        thumbnail_size=checks.integer(
            "header.thumbnail_size", header.thumbnail_size, low=0, high=4096
        ),
        filename=filename,
        content_type=checks.text(
            "header.content_type", header.content_type, shortest=1, longest=127
        ),
        size=checks.integer("header.size", header.size, low=0, high=_MAX_ARTIFACT_BYTES),
        sha256=header.sha256,
        width=checks.integer("header.width", header.width, low=0, high=2**31 - 1),
        height=checks.integer("header.height", header.height, low=0, high=2**31 - 1),
        node_id=checks.text("header.node_id", header.node_id, longest=limits.MAX_NAME),
    )
    return _lease_key(checks, "header.lease", header.lease), artifact


#: Largest file a worker may upload.
_MAX_ARTIFACT_BYTES: Final = 8 * 1024**3


async def _chunks(request: AsyncIterator[pb.UploadArtifactRequest]) -> AsyncIterator[bytes]:
    async for message in request:
        checks = FieldChecks()
        if message.WhichOneof("content") != "chunk":
            checks.wrong("chunk", "must be what every message after the first holds")
        if len(message.chunk) > limits.MAX_CHUNK_BYTES:
            checks.wrong("chunk", f"must have at most {limits.MAX_CHUNK_BYTES:,} bytes")
        checks.raise_if_wrong()
        yield message.chunk


def _job_error(checks: FieldChecks, request: pb.FailJobRequest) -> None:
    error = request.error
    if not request.HasField("error"):
        checks.wrong("error", "is required")
    checks.text("error.message", error.message, longest=2_000)
    checks.text("error.technical_details", error.technical_details, longest=4_096)
    checks.text("error.exception_type", error.exception_type, longest=limits.MAX_NAME)
    checks.text("error.node_id", error.node_id, longest=limits.MAX_NAME)
    checks.text("error.node_type", error.node_type, longest=limits.MAX_NAME)
    if len(error.node_input_errors) > 100:
        checks.wrong("error.node_input_errors", "must have at most 100 entries")
    for index, one in enumerate(error.node_input_errors[:100]):
        path = f"error.node_input_errors[{index}]"
        checks.text(f"{path}.node_id", one.node_id, longest=limits.MAX_NAME)
        checks.text(f"{path}.node_type", one.node_type, longest=limits.MAX_NAME)
        checks.text(f"{path}.input_name", one.input_name, longest=limits.MAX_NAME)
        checks.text(f"{path}.error_type", one.error_type, longest=limits.MAX_NAME)
        checks.text(f"{path}.message", one.message, longest=2_000)


def _catalogue(checks: FieldChecks, path: str, catalogue: pb.BackendCatalogue) -> Catalogue:
    _word(checks, f"{path}.backend", catalogue.backend)
    checks.text(f"{path}.digest", catalogue.digest, shortest=1, longest=64)
    checks.text(f"{path}.comfyui_version", catalogue.comfyui_version, longest=limits.MAX_NAME)
    checks.text(f"{path}.device", catalogue.device, longest=limits.MAX_NAME)
    for kind in ("checkpoints", "loras", "vaes", "samplers", "schedulers", "node_classes"):
        for index, name in enumerate(getattr(catalogue, kind)):
            if "\0" in name:
                checks.wrong(f"{path}.{kind}[{index}]", "must not contain the character NUL")
    content: dict[str, Any] = json_format.MessageToDict(catalogue, preserving_proto_field_name=True)
    return Catalogue(catalogue.backend, catalogue.digest, content)
