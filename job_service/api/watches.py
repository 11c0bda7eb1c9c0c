"""The watch calls of GenerationJobService."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb

from job_service.api import opaque_token, resume_token
from job_service.api.caller import principal
from job_service.api.filters import conditions
from job_service.api.presenter import JobPresenter
from job_service.api.queue_report import queue_position
from job_service.events.job_feed import JobFeed
from job_service.events.jobs_watch import JobsWatches
from job_service.events.progress_board import ProgressBoard
from job_service.jobs.fields import FieldChecks
from job_service.queue.positions import QueuePositions

Context = grpc.aio.ServicerContext[Any, Any]


class WatchCalls:
    """Tells clients what becomes of one job, or of all that match a filter.

    The servicer sets ``_presenter``, ``_feed``, ``_watches``, ``_positions``, ``_board`` and
    ``_keep_alive`` (seconds).
    """

    _presenter: JobPresenter
    _feed: JobFeed
    _watches: JobsWatches
    _positions: QueuePositions
    _board: ProgressBoard
    _keep_alive: float

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        caller = principal()
        checks = FieldChecks()
        checks.integer("id", request.id, low=1, high=2**63 - 1)
        checks.raise_if_wrong()
        preview = None
        revision = 0
        jobs = self._feed.watch(
            request.id,
            caller.visible_user,
            self._keep_alive,
            previews=request.include_previews,
        )
        async for job in jobs:
            if job is None:
                yield pb.WatchJobResponse(keep_alive=pb.KeepAlive())
                continue
            row = job.row
            response = pb.WatchJobResponse(job=await self._presenter.detailed(job))
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
        caller = principal()
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
