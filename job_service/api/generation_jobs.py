"""GenerationJobService: what clients call."""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import grpc
import structlog
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import generation_job_service_pb2_grpc, job_pb2

from job_service.api import page_token
from job_service.api.artifacts import ArtifactCalls
from job_service.api.caller import principal
from job_service.api.encode import etag, job_message
from job_service.api.field_mask import NAMES_MODELS, check_mask, updated
from job_service.api.filters import check_view, conditions, listing_of
from job_service.api.presenter import JobPresenter
from job_service.api.queue_report import QueueReport
from job_service.api.recipe_lookup import RecipeLookup
from job_service.api.statistics import grouping, stats_message
from job_service.api.templates import TemplateCalls
from job_service.api.watches import WatchCalls
from job_service.artifacts.input_uploads import InputUploads
from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.events.announcements import pending_topics
from job_service.events.hub import Hub, JobChanged, JobEnded, JobQueued, SweepDue, WorkerConcerned
from job_service.events.job_feed import JobFeed
from job_service.events.jobs_watch import JobsWatches
from job_service.events.progress_board import ProgressBoard
from job_service.jobs import limits
from job_service.jobs.creation_rate import CreationRate
from job_service.jobs.fields import FieldChecks
from job_service.jobs.limits import Limits
from job_service.jobs.new_job import NewJob
from job_service.jobs.principal import Principal
from job_service.jobs.recipe_book import RecipeBook
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.states import FINAL, PENDING
from job_service.jobs.validation import new_job, new_jobs
from job_service.queue.positions import QueuePositions
from job_service.store.artifacts import ArtifactTable
from job_service.store.creation import JobCreation
from job_service.store.edits import EditStore
from job_service.store.job_stats import JobStatsStore
from job_service.store.jobs import JobStore
from job_service.store.listing import ListingStore
from job_service.store.tables import JobRow
from job_service.store.templates import TemplateStore

_log = structlog.get_logger(__name__)
_level: Final = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

#: How often an update without an etag starts over because the job changed under it.
_UPDATE_TRIES: Final = 5


class GenerationJobServicer(
    ArtifactCalls,
    TemplateCalls,
    WatchCalls,
    generation_job_service_pb2_grpc.GenerationJobServiceServicer,
):
    """Serves clients."""

    def __init__(
        self,
        *,
        creation: JobCreation,
        creation_rate: CreationRate,
        jobs: JobStore,
        edits: EditStore,
        listing: ListingStore,
        templates: TemplateStore,
        recipes: RecipeLookup,
        artifacts: ArtifactTable,
        objects: ObjectStoreOfArtifacts,
        uploads: InputUploads,
        presenter: JobPresenter,
        feed: JobFeed,
        watches: JobsWatches,
        positions: QueuePositions,
        board: ProgressBoard,
        job_stats: JobStatsStore,
        queue_report: QueueReport,
        hub: Hub,
        bounds: Limits,
        keep_alive: float,
    ) -> None:
        self._creation = creation
        self._creation_rate = creation_rate
        self._jobs = jobs
        self._edits = edits
        self._listing = listing
        self._templates = templates
        self._recipes = recipes
        self._artifacts = artifacts
        self._objects = objects
        self._uploads = uploads
        self._presenter = presenter
        self._feed = feed
        self._watches = watches
        self._positions = positions
        self._board = board
        self._job_stats = job_stats
        self._queue_report = queue_report
        self._hub = hub
        self._bounds = bounds
        self._keep_alive = keep_alive

    async def CreateJob(
        self, request: pb.CreateJobRequest, context: Context
    ) -> pb.CreateJobResponse:
        caller = principal()
        (job,) = await self._accepted(
            [request.job], caller, lambda bounds, book: [new_job(request, caller, bounds, book)]
        )
        self._creation_rate.take([job.user_id])
        created = await self._creation.create(job)
        if _level.isEnabledFor(logging.DEBUG):
            _log.debug("job stored", job_id=created.job.id, prompt=job.prompt)
        if created.is_new and created.job.dispatchable and created.job.route_key is not None:
            # Workers that wait go first: their lease brings the job to the disk as well.
            self._hub.wake(JobQueued(created.job.id, created.job.route_key))
        try:
            await self._creation.keep(created)
        finally:  # it is stored, whether or not it can be said
            if created.is_new:
                self._hub.publish(JobChanged(created.job.id), *pending_topics(created.job))
        return pb.CreateJobResponse(job=await self._presenter.full(created.job))

    async def BatchCreateJobs(
        self, request: pb.BatchCreateJobsRequest, context: Context
    ) -> pb.BatchCreateJobsResponse:
        caller = principal()
        jobs = await self._accepted(
            [one.job for one in request.requests],
            caller,
            lambda bounds, book: new_jobs(request, caller, bounds, book),
        )
        self._creation_rate.take(job.user_id for job in jobs)
        created = await self._creation.create_all(jobs)
        new = [one.job for one in created if one.is_new]
        self._hub.publish(
            *(JobChanged(job.id) for job in new),
            *set[Hashable]().union(*map(pending_topics, new)),
        )
        response = pb.BatchCreateJobsResponse()
        size = 0
        for message in await self._presenter.all_full([one.job for one in created]):
            size += message.ByteSize() + 8
            response.jobs.append(
                message
                if size <= limits.MAX_REPLY_BYTES
                else job_pb2.GenerationJob(id=message.id, status=message.status)
            )
        return response

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        caller = principal()
        checks = FieldChecks()
        _job_id(checks, request.id)
        check_view(checks, request.view)
        checks.raise_if_wrong()
        if request.view == job_pb2.JOB_VIEW_BASIC:
            row = await self._jobs.require(request.id, caller.visible_user)
            return pb.GetJobResponse(job=await self._presenter.basic(row))
        job = await self._jobs.require_detailed(request.id, caller.visible_user)
        return pb.GetJobResponse(job=await self._presenter.detailed(job))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        caller = principal()
        checks = FieldChecks()
        listing, digest = listing_of(checks, request, caller)
        checks.raise_if_wrong()
        page = await self._listing.page(listing)
        more = page.more
        response = pb.ListJobsResponse()
        if request.include_total:
            response.total = await self._listing.count(listing.conditions)
        size = 0
        messages = (
            await self._presenter.all_full(page.jobs)
            if request.view == job_pb2.JOB_VIEW_FULL
            else [await self._presenter.basic(row) for row in page.jobs]
        )
        for message in messages:
            size += message.ByteSize() + 8
            if size > limits.MAX_REPLY_BYTES and response.jobs:
                more = True
                break
            response.jobs.append(message)
        if more:
            last = page.jobs[len(response.jobs) - 1]
            response.next_page_token = page_token.encode(digest, listing.order.place_of(last))
        return response

    async def CancelJob(
        self, request: pb.CancelJobRequest, context: Context
    ) -> pb.CancelJobResponse:
        caller = principal()
        checks = FieldChecks()
        _job_id(checks, request.id)
        checks.text("reason", request.reason, longest=limits.MAX_REASON)
        checks.raise_if_wrong()
        row = await self._jobs.cancel(request.id, caller.visible_user, request.reason or None)
        self._announce_cancel(row)
        return pb.CancelJobResponse(job=await self._presenter.full(row))

    async def UpdateJob(
        self, request: pb.UpdateJobRequest, context: Context
    ) -> pb.UpdateJobResponse:
        caller = principal()
        checks = FieldChecks()
        checks.integer("job.id", request.job.id, low=1, high=2**63 - 1)
        check_mask(checks, request.update_mask)
        checks.raise_if_wrong()
        for _ in range(_UPDATE_TRIES):
            row = await self._jobs.require(request.job.id, caller.visible_user)
            _require_updatable(row, request.job.etag)
            new = await self._updated(row, request, caller)
            _require_attempts_left(row, new)
            changed = await self._edits.update(row.id, row.revision, new)
            if changed is not None:
                self._hub.publish(JobChanged(row.id), *pending_topics(changed))
                return pb.UpdateJobResponse(job=await self._presenter.full(changed))
        raise RefusedError(Refusal.ETAG_MISMATCH, f"job {row.id} keeps changing; read it again")

    async def SetJobContent(
        self, request: pb.SetJobContentRequest, context: Context
    ) -> pb.SetJobContentResponse:
        caller = principal()
        checks = FieldChecks()
        _job_id(checks, request.id)
        content_id = request.content_id if request.HasField("content_id") else None
        if content_id is not None:
            checks.integer("content_id", content_id, low=1, high=2**63 - 1)
        checks.raise_if_wrong()
        row = await self._edits.set_content(request.id, caller.visible_user, content_id)
        self._hub.publish(JobChanged(row.id))
        return pb.SetJobContentResponse(job=await self._presenter.full(row))

    async def BatchCancelJobs(
        self, request: pb.BatchCancelJobsRequest, context: Context
    ) -> pb.BatchCancelJobsResponse:
        caller = principal()
        checks = FieldChecks()
        checks.text("reason", request.reason, longest=limits.MAX_REASON)
        wanted = conditions(checks, request.filter, caller)
        if all(field.name == "user_id" for field, _ in request.filter.ListFields()):
            checks.wrong("filter", "must hold at least one condition besides user_id")
        checks.raise_if_wrong()
        response = pb.BatchCancelJobsResponse()
        while batch := await self._edits.cancel_matching(wanted, request.reason or None):
            at_rest = sum(one.at_rest for one in batch)
            response.cancelled_count += at_rest
            response.cancelling_count += len(batch) - at_rest
            workers = {one.worker_id for one in batch if one.worker_id is not None}
            self._board.note_cancel(*(one.job_id for one in batch))
            self._hub.publish(
                JobEnded(),
                *(JobChanged(one.job_id) for one in batch),
                *(WorkerConcerned(worker_id) for worker_id in workers),
            )
        return response

    async def DeleteJob(
        self, request: pb.DeleteJobRequest, context: Context
    ) -> pb.DeleteJobResponse:
        caller = principal()
        checks = FieldChecks()
        _job_id(checks, request.id)
        checks.raise_if_wrong()
        if request.cancel and not await self._cancel_to_delete(request.id, caller.visible_user):
            return pb.DeleteJobResponse(deleted=False)
        try:
            await self._jobs.delete(request.id, caller.visible_user)
        except RefusedError as error:
            # a job that goes once it has ended may have been removed by upkeep since it was seen
            if not (request.cancel and error.refusal is Refusal.JOB_NOT_FOUND):
                raise
        self._hub.publish(JobChanged(request.id), SweepDue())
        return pb.DeleteJobResponse(deleted=True)

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        caller = principal()
        checks = FieldChecks()
        _job_id(checks, request.id)
        checks.raise_if_wrong()
        row = await self._jobs.retry(request.id, caller.visible_user)
        self._hub.publish(JobChanged(row.id), *pending_topics(row))
        return pb.RetryJobResponse(job=await self._presenter.full(row))

    async def GetJobStats(
        self, request: pb.GetJobStatsRequest, context: Context
    ) -> pb.GetJobStatsResponse:
        caller = principal()
        checks = FieldChecks()
        wanted = conditions(checks, request.filter, caller)
        dimensions, interval = grouping(checks, request)
        checks.raise_if_wrong()
        rows = await self._job_stats.rows(
            wanted, dimensions, interval, with_storage=request.include_storage
        )
        return pb.GetJobStatsResponse(rows=map(stats_message, rows))

    async def GetQueueStats(
        self, request: pb.GetQueueStatsRequest, context: Context
    ) -> pb.GetQueueStatsResponse:
        return await self._queue_report.report()

    async def _accepted(
        self,
        jobs: Sequence[job_pb2.GenerationJob],
        caller: Principal,
        validate: Callable[[Limits, RecipeBook], list[NewJob]],
    ) -> list[NewJob]:
        """What ``validate`` makes of a request.

        A repeated call is answered also when what its jobs name has ceased to be offered since.
        """
        strict = self._bounds
        try:
            return await self._recipes.check(jobs, caller, lambda book: validate(strict, book))
        except RefusedError as refused:
            if not strict.refuse_unknown_models:
                raise
            lenient = replace(strict, refuse_unknown_models=False)
            try:
                new = await self._recipes.check(jobs, caller, lambda book: validate(lenient, book))
            except RefusedError:
                raise refused from None
            if not await self._creation.are_stored(new):
                raise
            return new

    async def _updated(
        self, row: JobRow, request: pb.UpdateJobRequest, caller: Principal
    ) -> NewJob:
        """The job with its new values, checked as if it were created with them."""
        job = updated(job_message(row), request.job, request.update_mask)
        bounds = self._bounds
        if not NAMES_MODELS.intersection(request.update_mask.paths):
            bounds = replace(bounds, refuse_unknown_models=False)
        keeps_priority = "priority" not in request.update_mask.paths
        if keeps_priority:
            # What a gateway raised stays raised when the user changes something else.
            job.ClearField("priority")
        new = await self._recipes.check(
            [job],
            caller,
            lambda book: new_job(pb.CreateJobRequest(job=job), caller, bounds, book),
        )
        return replace(new, priority=row.priority) if keeps_priority else new

    def _announce_cancel(self, row: JobRow) -> None:
        self._board.note_cancel(row.id)
        self._hub.publish(JobChanged(row.id), JobEnded())
        if row.worker_id is not None:
            self._hub.publish(WorkerConcerned(row.worker_id))

    async def _cancel_to_delete(self, job_id: int, user_id: UUID | None) -> bool:
        """Make sure that the job ends; whether it has."""
        job = await self._jobs.require(job_id, user_id)
        if job.status in FINAL:
            return True
        try:
            job = await self._jobs.cancel(job_id, user_id, "deleted", delete=True)
        except RefusedError as error:
            if error.refusal is Refusal.WRONG_STATE:  # it has ended in between
                return True
            raise
        self._announce_cancel(job)
        return job.status in FINAL


def _require_updatable(row: JobRow, given_etag: str) -> None:
    if row.status != PENDING:
        raise RefusedError(
            Refusal.WRONG_STATE,
            f"job {row.id} is {row.status}: only a pending job can be updated",
            metadata={"status": row.status},
        )
    if given_etag and given_etag != etag(row.id, row.revision):
        raise RefusedError(
            Refusal.ETAG_MISMATCH,
            f"job {row.id} has changed since it was read; read it again",
            metadata={"etag": etag(row.id, row.revision)},
        )


def _require_attempts_left(row: JobRow, new: NewJob) -> None:
    """A job that waits has an attempt left, whatever it is changed to."""
    if new.max_attempts <= row.attempts_charged:
        raise RefusedError(
            Refusal.WRONG_STATE,
            f"job {row.id} has used up {row.attempts_charged} of its attempts already:"
            " max_attempts must be more",
            metadata={"status": row.status, "attempts_charged": str(row.attempts_charged)},
        )


def _job_id(checks: FieldChecks, job_id: int) -> None:
    checks.integer("id", job_id, low=1, high=2**63 - 1)
