"""OperatorService: what whoever runs the system calls."""

from datetime import UTC, datetime
from typing import Any

import grpc
from generation_jobs.v1 import job_error_pb2, job_pb2, operator_service_pb2_grpc
from generation_jobs.v1 import operator_service_pb2 as pb

from job_service.api.encode import attempt_message, duration, timestamp
from job_service.api.presenter import JobPresenter
from job_service.events.announcements import pending_topics
from job_service.events.hub import Hub, JobChanged, JobEnded, SweepDue, UpkeepDue, WorkerConcerned
from job_service.events.progress_board import ProgressBoard
from job_service.jobs import limits
from job_service.jobs.error_policy import error_of
from job_service.jobs.fields import FieldChecks
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.states import TYPE_TO_WIRE
from job_service.queue.explanation import Circumstances, explain
from job_service.queue.fleet import Fleet
from job_service.queue.positions import QueuePositions
from job_service.store.database import Database
from job_service.store.endings import EndingStore, given_back
from job_service.store.fleet_rows import FleetRows, WorkerRow
from job_service.store.jobs import JobStore
from job_service.store.pauses import Pause, PauseStore
from job_service.store.tables import JobRow

Context = grpc.aio.ServicerContext[Any, Any]


class OperatorServicer(operator_service_pb2_grpc.OperatorServiceServicer):
    """Serves operators. Admins only."""

    def __init__(
        self,
        *,
        database: Database,
        jobs: JobStore,
        endings: EndingStore,
        rows: FleetRows,
        fleet: Fleet,
        pauses: PauseStore,
        presenter: JobPresenter,
        positions: QueuePositions,
        board: ProgressBoard,
        hub: Hub,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._endings = endings
        self._rows = rows
        self._fleet = fleet
        self._pauses = pauses
        self._presenter = presenter
        self._positions = positions
        self._board = board
        self._hub = hub

    async def ListWorkers(
        self, request: pb.ListWorkersRequest, context: Context
    ) -> pb.ListWorkersResponse:
        rows = await self._rows.workers(include_gone=request.include_gone)
        return pb.ListWorkersResponse(workers=map(_worker, rows))

    async def GetWorker(
        self, request: pb.GetWorkerRequest, context: Context
    ) -> pb.GetWorkerResponse:
        return pb.GetWorkerResponse(worker=await self._worker(_worker_name(request.name)))

    async def DrainWorker(
        self, request: pb.DrainWorkerRequest, context: Context
    ) -> pb.DrainWorkerResponse:
        return pb.DrainWorkerResponse(worker=await self._set_drain(request.name, drain=True))

    async def ResumeWorker(
        self, request: pb.ResumeWorkerRequest, context: Context
    ) -> pb.ResumeWorkerResponse:
        return pb.ResumeWorkerResponse(worker=await self._set_drain(request.name, drain=False))

    async def ListAttempts(
        self, request: pb.ListAttemptsRequest, context: Context
    ) -> pb.ListAttemptsResponse:
        job_id = _job_id(request.job_id)
        job = await self._jobs.require_detailed(job_id, None)
        return pb.ListAttemptsResponse(attempts=map(attempt_message, job.details.attempts))

    async def ExplainJob(
        self, request: pb.ExplainJobRequest, context: Context
    ) -> pb.ExplainJobResponse:
        job = await self._jobs.require_detailed(_job_id(request.job_id), None)
        row = job.row
        response = pb.ExplainJobResponse(job=await self._presenter.detailed(job))
        circumstances = await self._circumstances(row)
        response.explanation = explain(row, circumstances, datetime.now(UTC))
        response.pending_reason = circumstances.pending_reason
        response.jobs_ahead = circumstances.jobs_ahead
        response.able_workers.extend(circumstances.able_workers)
        response.missing.extend(circumstances.missing)
        if row.status == "running":
            response.worker = response.job.worker
            response.comfyui_backend = response.job.comfyui_backend
            response.comfyui_prompt_id = response.job.comfyui_prompt_id
            if circumstances.last_beat_at is not None:
                response.last_beat_at.FromDatetime(circumstances.last_beat_at)
        if circumstances.next_change is not None:
            response.next_change.CopyFrom(duration(circumstances.next_change))
        return response

    async def RequeueJob(
        self, request: pb.RequeueJobRequest, context: Context
    ) -> pb.RequeueJobResponse:
        job_id = _job_id(request.job_id)
        row = await self._jobs.require(job_id, None)
        if row.status in ("failed", "cancelled"):
            row = await self._jobs.retry(job_id, None)
        else:
            taken = row.status == "running" and await self._take_away(row)
            row = await self._jobs.require(job_id, None)
            if not taken:
                raise RefusedError(
                    Refusal.WRONG_STATE,
                    f"job {job_id} is {row.status}: only a running, failed or cancelled job can be"
                    " requeued",
                    metadata={"status": row.status},
                )
        self._hub.publish(JobChanged(job_id), *pending_topics(row))
        return pb.RequeueJobResponse(job=await self._presenter.full(row))

    async def FailJobNow(
        self, request: pb.FailJobNowRequest, context: Context
    ) -> pb.FailJobNowResponse:
        checks = FieldChecks()
        checks.text("reason", request.reason, shortest=1, longest=limits.MAX_REASON)
        checks.raise_if_wrong()
        before = await self._jobs.require(_job_id(request.job_id), None)
        error = error_of(job_error_pb2.ERROR_CODE_FAILED_BY_OPERATOR, request.reason)
        row = await self._jobs.fail_now(before.id, error)
        self._announce_loss(before)
        return pb.FailJobNowResponse(job=await self._presenter.full(row))

    async def PauseDispatch(
        self, request: pb.PauseDispatchRequest, context: Context
    ) -> pb.PauseDispatchResponse:
        checks = FieldChecks()
        checks.text("reason", request.reason, longest=limits.MAX_REASON)
        pause = _pause(checks, request.selector)
        checks.raise_if_wrong()
        await self._pauses.add(pause, request.reason)
        await self._fleet.pauses_changed()
        return pb.PauseDispatchResponse(affected_pending=await self._pauses.affected(pause))

    async def ResumeDispatch(
        self, request: pb.ResumeDispatchRequest, context: Context
    ) -> pb.ResumeDispatchResponse:
        checks = FieldChecks()
        pause = _pause(checks, request.selector)
        checks.raise_if_wrong()
        resumed = await self._pauses.remove(pause)
        await self._fleet.pauses_changed()
        return pb.ResumeDispatchResponse(affected_pending=resumed)

    async def _worker(self, name: str) -> pb.Worker:
        rows = await self._rows.workers(include_gone=True, name=name)
        if not rows:
            raise RefusedError(Refusal.WORKER_NOT_FOUND, f"there is no worker {name!r}")
        return _worker(rows[0])

    async def _set_drain(self, name: str, *, drain: bool) -> pb.Worker:
        worker_id = await self._rows.set_drain(_worker_name(name), drain=drain)
        if worker_id is None:
            raise RefusedError(Refusal.WORKER_NOT_FOUND, f"there is no worker {name!r}")
        self._fleet.announce_drain(worker_id, drain=drain)
        return await self._worker(name)

    async def _take_away(self, row: JobRow) -> bool:
        """End the lease of a running job, uncharged; False: it had ended before."""
        lease = await self._jobs.lease_of(row.id)
        if lease is None:
            return False
        ended = await self._endings.end(given_back(lease))
        if ended.changed:
            self._announce_loss(row)
        return ended.changed

    def _announce_loss(self, before: JobRow) -> None:
        """Tell watchers, and the worker that has lost its lease."""
        self._board.forget(before.id)
        self._hub.publish(JobChanged(before.id), JobEnded(), UpkeepDue(), SweepDue())
        if before.worker_id is not None:
            self._hub.publish(WorkerConcerned(before.worker_id))

    async def _circumstances(self, row: JobRow) -> Circumstances:
        needs = await self._fleet.needs_of(row.route_key) if row.status == "pending" else None
        place = await self._positions.now(row)
        return Circumstances(
            pending_reason=await self._presenter.pending_reason(row),
            jobs_ahead=place.jobs_ahead if place else 0,
            able_workers=await self._fleet.able_workers(needs) if needs else [],
            missing=await self._fleet.missing(needs) if needs else [],
            last_beat_at=await self._last_beat(row) if row.status == "running" else None,
            next_change=await self._jobs.next_change(row.id),
        )

    async def _last_beat(self, row: JobRow) -> datetime | None:
        """When the worker of a running job was last heard of, however long ago."""
        name = (row.backend or "").partition("/")[0]
        processes = await self._rows.workers(include_gone=True, name=name)
        return next((one.last_beat_at for one in processes if row.id in one.job_ids), None)


def _worker_name(name: str) -> str:
    checks = FieldChecks()
    checks.text("name", name, shortest=1, longest=limits.MAX_WORD)
    checks.raise_if_wrong()
    return name


def _job_id(job_id: int) -> int:
    checks = FieldChecks()
    checks.integer("job_id", job_id, low=1, high=2**63 - 1)
    checks.raise_if_wrong()
    return job_id


def _pause(checks: FieldChecks, selector: pb.DispatchSelector) -> Pause:
    match selector.WhichOneof("selector"):
        case "backend_label":
            label = selector.backend_label
            return Pause(backend_label=_named(checks, "backend_label", label, limits.MAX_WORD))
        case "checkpoint_model":
            name = selector.checkpoint_model
            return Pause(checkpoint_model=_named(checks, "checkpoint_model", name, limits.MAX_NAME))
    checks.wrong("selector", "must name a backend label or a checkpoint")
    return Pause()


def _named(checks: FieldChecks, field: str, value: str, longest: int) -> str:
    return checks.text(f"selector.{field}", value, shortest=1, longest=longest)


def _worker(row: WorkerRow) -> pb.Worker:
    servers, loaded = row.servers or {}, row.loaded or {}
    return pb.Worker(
        name=row.name,
        instance_id=str(row.instance_id),
        epoch=row.epoch,
        version=row.version,
        last_beat_at=timestamp(row.last_beat_at),
        live=row.live,
        draining=row.draining,
        slots=sum(backend.get("slots", 0) for backend in row.backends),
        job_ids=row.job_ids,
        backends=[
            pb.WorkerBackend(
                name=backend["name"],
                slots=backend.get("slots", 0),
                loaded_checkpoint=loaded.get(f"{row.name}/{backend['name']}") or "",
                comfyui_version=servers.get(backend["name"], {}).get("comfyui_version") or "",
                device=servers.get(backend["name"], {}).get("device") or "",
            )
            for backend in row.backends
        ],
        backend_labels=row.backend_labels,
        job_types=[
            TYPE_TO_WIRE.get(job_type, job_pb2.JOB_TYPE_UNSPECIFIED) for job_type in row.job_types
        ],
        registered_at=timestamp(row.registered_at),
    )
