"""GenerationJobService: what clients call."""

import unicodedata
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import generation_job_service_pb2_grpc, job_pb2

from job_service.api import opaque_token, page_token, resume_token
from job_service.api.caller import require_role
from job_service.api.encode import (
    artifact_message,
    etag,
    input_message,
    job_message,
    timestamp,
)
from job_service.api.field_mask import NAMES_MODELS, check_mask, updated
from job_service.api.filters import ORDERS, conditions
from job_service.api.presenter import JobPresenter
from job_service.api.queue_report import QueueReport, queue_position
from job_service.api.recipe_lookup import RecipeLookup
from job_service.api.statistics import grouping, stats_message
from job_service.api.templates import TemplateCalls
from job_service.api.upload_stream import chunks, opening
from job_service.artifacts.input_uploads import InputUploads
from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.events.announcements import pending_topics
from job_service.events.hub import Hub, JobChanged, JobEnded, UpkeepDue, WorkerConcerned
from job_service.events.job_feed import JobFeed
from job_service.events.jobs_watch import JobsWatches
from job_service.events.progress_board import ProgressBoard
from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.limits import Limits
from job_service.jobs.new_job import NewJob
from job_service.jobs.principal import Principal, Role
from job_service.jobs.recipe_book import RecipeBook
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.states import FINAL, PENDING
from job_service.jobs.validation import new_job, new_jobs, owner
from job_service.queue.positions import QueuePositions
from job_service.store.artifacts import ArtifactRow, ArtifactTable
from job_service.store.creation import JobCreation
from job_service.store.edits import EditStore
from job_service.store.job_stats import JobStatsStore
from job_service.store.jobs import JobStore
from job_service.store.listing import JobListing, ListingStore, Order
from job_service.store.tables import JobRow
from job_service.store.templates import TemplateStore

Context = grpc.aio.ServicerContext[Any, Any]

#: How often an update without an etag starts over because the job changed under it.
_UPDATE_TRIES: Final = 5


class GenerationJobServicer(
    TemplateCalls, generation_job_service_pb2_grpc.GenerationJobServiceServicer
):
    """Serves clients."""

    def __init__(
        self,
        *,
        creation: JobCreation,
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
        caller = _client()
        (job,) = await self._accepted(
            [request.job], caller, lambda bounds, book: [new_job(request, caller, bounds, book)]
        )
        created = await self._creation.create(job)
        if created.is_new:
            self._hub.publish(JobChanged(created.job.id), *pending_topics(created.job))
        return pb.CreateJobResponse(job=await self._presenter.full(created.job))

    async def BatchCreateJobs(
        self, request: pb.BatchCreateJobsRequest, context: Context
    ) -> pb.BatchCreateJobsResponse:
        caller = _client()
        jobs = await self._accepted(
            [one.job for one in request.requests],
            caller,
            lambda bounds, book: new_jobs(request, caller, bounds, book),
        )
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
        caller = _client()
        checks = FieldChecks()
        _job_id(checks, request.id)
        _view(checks, request.view)
        checks.raise_if_wrong()
        row = await self._jobs.require(request.id, caller.visible_user)
        if request.view == job_pb2.JOB_VIEW_BASIC:
            return pb.GetJobResponse(job=await self._presenter.basic(row))
        return pb.GetJobResponse(job=await self._presenter.full(row))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        caller = _client()
        checks = FieldChecks()
        listing, digest = _listing(checks, request, caller)
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
        caller = _client()
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
        caller = _client()
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
        caller = _client()
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
        caller = _client()
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
            self._hub.publish(
                JobEnded(),
                *(JobChanged(one.job_id) for one in batch),
                *(WorkerConcerned(worker_id) for worker_id in workers),
            )
        return response

    async def DeleteJob(
        self, request: pb.DeleteJobRequest, context: Context
    ) -> pb.DeleteJobResponse:
        caller = _client()
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
        self._hub.publish(JobChanged(request.id), UpkeepDue())
        return pb.DeleteJobResponse(deleted=True)

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        caller = _client()
        checks = FieldChecks()
        _job_id(checks, request.id)
        checks.raise_if_wrong()
        row = await self._jobs.retry(request.id, caller.visible_user)
        self._hub.publish(JobChanged(row.id), *pending_topics(row))
        return pb.RetryJobResponse(job=await self._presenter.full(row))

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        caller = _client()
        checks = FieldChecks()
        _job_id(checks, request.id)
        checks.raise_if_wrong()
        preview = None
        revision = 0
        async for row in self._feed.watch(request.id, caller.visible_user, self._keep_alive):
            if row is None:
                yield pb.WatchJobResponse(keep_alive=pb.KeepAlive())
                continue
            response = pb.WatchJobResponse(job=await self._presenter.full(row))
            if row.revision != revision:
                revision, place = row.revision, await self._positions.follow(row)
            else:
                place = self._positions.last_seen(row.id)
            if place is not None:
                response.queue_position.CopyFrom(queue_position(place))
            yield response
            if request.include_previews:
                newest = self._board.preview(row.id, row.attempt)
                if newest is not None and newest is not preview:
                    preview = newest
                    yield pb.WatchJobResponse(preview=newest)

    async def WatchJobs(
        self, request: pb.WatchJobsRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobsResponse]:
        caller = _client()
        checks = FieldChecks()
        wanted = conditions(checks, request.filter, caller)
        digest = opaque_token.digest(request.filter, str(caller.visible_user))
        since = resume_token.decode(checks, "resume_token", request.resume_token, digest)
        checks.raise_if_wrong()
        async for event in self._watches.watch(
            wanted,
            since=since,
            changes_only=request.changes_only,
            keep_alive=self._keep_alive,
        ):
            response = pb.WatchJobsResponse()
            if event.job is not None:
                response.job.CopyFrom(await self._presenter.basic(event.job))
            elif event.removed is not None:
                response.removed_job_id = event.removed
            else:
                response.keep_alive.SetInParent()
            if event.position is not None:
                response.resume_token = resume_token.encode(digest, event.position)
            yield response

    async def GetJobStats(
        self, request: pb.GetJobStatsRequest, context: Context
    ) -> pb.GetJobStatsResponse:
        caller = _client()
        checks = FieldChecks()
        wanted = conditions(checks, request.filter, caller)
        dimensions, interval = grouping(checks, request)
        checks.raise_if_wrong()
        rows = await self._job_stats.rows(wanted, dimensions, interval)
        return pb.GetJobStatsResponse(rows=map(stats_message, rows))

    async def GetQueueStats(
        self, request: pb.GetQueueStatsRequest, context: Context
    ) -> pb.GetQueueStatsResponse:
        _client()
        return await self._queue_report.report()

    async def ReadArtifact(
        self, request: pb.ReadArtifactRequest, context: Context
    ) -> AsyncIterator[pb.ReadArtifactResponse]:
        artifact = await self._artifact(request, FieldChecks())
        yield pb.ReadArtifactResponse(artifact=artifact_message(artifact))
        async for chunk in self._objects.read(artifact.object_key, limits.MAX_CHUNK_BYTES):
            yield pb.ReadArtifactResponse(chunk=chunk)

    async def GetArtifactUrl(
        self, request: pb.GetArtifactUrlRequest, context: Context
    ) -> pb.GetArtifactUrlResponse:
        checks = FieldChecks()
        lifetime = limits.DEFAULT_URL_LIFETIME
        if request.HasField("lifetime"):
            lifetime = checks.duration(
                "lifetime",
                request.lifetime,
                low=limits.MIN_URL_LIFETIME,
                high=limits.MAX_URL_LIFETIME,
            )
        artifact = await self._artifact(request, checks)
        # Counted from before the signature, so that the URL works at least that long.
        expires_at = datetime.now(UTC) + lifetime
        url = await self._objects.signed_url(artifact.object_key, lifetime)
        return pb.GetArtifactUrlResponse(url=url, expires_at=timestamp(expires_at))

    async def _artifact(
        self, request: pb.ReadArtifactRequest | pb.GetArtifactUrlRequest, checks: FieldChecks
    ) -> ArtifactRow:
        caller = _client()
        checks.integer("artifact_id", request.artifact_id, low=1, high=2**63 - 1)
        if request.thumbnail_size and request.thumbnail_size not in limits.THUMBNAIL_SIZES:
            sizes = ", ".join(map(str, limits.THUMBNAIL_SIZES))
            checks.wrong("thumbnail_size", f"must be 0 or one of {sizes}")
        checks.raise_if_wrong()
        artifact = await self._artifacts.get(
            request.artifact_id, request.thumbnail_size, caller.visible_user
        )
        if artifact is None:
            raise RefusedError(
                Refusal.ARTIFACT_NOT_FOUND, f"there is no artifact {request.artifact_id}"
            )
        return artifact

    async def UploadInput(
        self, request: AsyncIterator[pb.UploadInputRequest], context: Context
    ) -> pb.UploadInputResponse:
        caller = _client()
        header = (await opening(request)).header
        checks = FieldChecks()
        filename = checks.filename("header.filename", header.filename)
        if any(unicodedata.category(character) == "Cc" for character in filename):
            checks.wrong("header.filename", "must not contain control characters")
        user_id = owner(checks, "header.user_id", header.user_id, caller)
        checks.raise_if_wrong()
        stored = await self._uploads.take(user_id, filename, chunks(request))
        return pb.UploadInputResponse(input=input_message(stored))

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


def _client() -> Principal:
    return require_role(Role.USER, Role.GATEWAY)


def _job_id(checks: FieldChecks, job_id: int) -> None:
    checks.integer("id", job_id, low=1, high=2**63 - 1)


def _view(checks: FieldChecks, view: int) -> None:
    if view not in job_pb2.JobView.values():
        checks.wrong("view", f"has the unknown value {view}")


def _listing(
    checks: FieldChecks, request: pb.ListJobsRequest, caller: Principal
) -> tuple[JobListing, bytes]:
    """What to ask the table, and the digest for page tokens."""
    wanted = conditions(checks, request.filter, caller)
    order = ORDERS.get(request.order_by)
    if order is None:
        checks.wrong("order_by", f"has the unknown value {request.order_by}")
    _view(checks, request.view)
    page_size = checks.integer("page_size", request.page_size, low=0, high=limits.MAX_PAGE)
    digest = opaque_token.digest(request.filter, request.order_by, str(caller.visible_user))
    after = page_token.decode(checks, "page_token", request.page_token, digest)
    listing = JobListing(
        wanted,
        limit=page_size or limits.DEFAULT_PAGE,
        max_bytes=limits.MAX_REPLY_BYTES,
        order=order or Order.CREATED_DESC,
        after=after,
    )
    return listing, digest
