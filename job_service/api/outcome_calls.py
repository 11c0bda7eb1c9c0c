"""The calls of WorkerService by which workers report what became of an attempt."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import grpc
from generation_jobs.v1 import job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.api.caller import principal
from job_service.api.encode import artifact_message
from job_service.api.lease_messages import lease_lost
from job_service.api.upload_stream import chunks, opening
from job_service.api.worker_requests import (
    check_job_error,
    completion,
    lease_key,
    new_artifact,
    new_artifacts,
    retry_after,
    worker_identity,
)
from job_service.artifacts.result_uploads import ResultUploads
from job_service.events.hub import Hub, JobChanged, JobEnded, SweepDue, UpkeepDue, WorkAvailable
from job_service.events.progress_board import ProgressBoard
from job_service.jobs import error_policy
from job_service.jobs.fields import FieldChecks
from job_service.jobs.states import STATUS_TO_WIRE
from job_service.store.completions import CompletionStore
from job_service.store.endings import Ending, EndingStore
from job_service.store.lease_key import LeaseEndedError, LeaseKey
from job_service.store.outcomes import UNSTORED, Ended

Context = grpc.aio.ServicerContext[Any, Any]


class OutcomeCalls:
    """Takes the files of attempts, and how each has ended.

    The servicer sets ``_completions``, ``_endings``, ``_board``, ``_uploads``, ``_hub``, ``_ttl``
    and ``_max_artifact_bytes``.
    """

    _completions: CompletionStore
    _endings: EndingStore
    _board: ProgressBoard
    _uploads: ResultUploads
    _hub: Hub
    _ttl: timedelta
    _max_artifact_bytes: int

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
            raise lease_lost(lease) from None
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
            raise lease_lost(lease) from None
        return pb.UploadArtifactsResponse(
            artifacts=map(artifact_message, stored),
            completed=await self._completed(lease, ended, "completion."),
        )

    async def CompleteJob(
        self, request: pb.CompleteJobRequest, context: Context
    ) -> pb.CompleteJobResponse:
        checks = FieldChecks()
        completed = completion(checks, request, principal())
        checks.raise_if_wrong()
        ended = await self._completions.complete(completed)
        return await self._completed(completed.lease, ended)

    async def FailJob(self, request: pb.FailJobRequest, context: Context) -> pb.FailJobResponse:
        checks = FieldChecks()
        worker_identity(checks, request.worker, principal())
        lease = lease_key(checks, "lease", request.lease)
        check_job_error(checks, request)
        delay = retry_after(checks, request)
        checks.raise_if_wrong()
        error = error_policy.complete(request.error)
        rule = error_policy.policy(error.code)
        ended = await self._endings.end(
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
        ended = await self._endings.end(
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

    async def _completed(
        self, lease: LeaseKey, ended: Ended, path: str = ""
    ) -> pb.CompleteJobResponse:
        if ended.status == UNSTORED:
            checks = FieldChecks()
            unstored = "names an artifact that this attempt has not stored"
            checks.wrong(f"{path}artifact_ids", unstored)
            checks.raise_if_wrong()
        response = pb.CompleteJobResponse(status=self._announce_end(lease, ended))
        # Two turns of the event loop, in which whoever watches the job sends for it: it is read
        # while the rest of the answer is made.
        for _ in range(2):
            await asyncio.sleep(0)
        return response

    def _announce_end(self, lease: LeaseKey, ended: Ended) -> "job_pb2.JobStatus.ValueType":
        if ended.status is None:
            raise lease_lost(lease)
        if ended.changed:
            self._board.forget(lease.job_id)
            self._hub.publish(JobChanged(lease.job_id), JobEnded())
            if ended.status == "pending":
                self._hub.publish(WorkAvailable(), UpkeepDue())
            if ended.deleting or ended.status != "completed":
                self._hub.publish(SweepDue())
        return STATUS_TO_WIRE[ended.status]


_RELEASE_REASONS: Final = frozenset(pb.ReleaseReason.values()) - {pb.RELEASE_REASON_UNSPECIFIED}
