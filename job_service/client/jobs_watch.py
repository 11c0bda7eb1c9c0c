"""WatchJobs, opened whenever there is no stream to read from, going on where the last one broke."""

from collections import deque
from typing import TYPE_CHECKING

import grpc
from generation_jobs.v1.generation_job_service_pb2 import WatchJobsRequest, WatchJobsResponse
from generation_jobs.v1.job_pb2 import JobFilter

from job_service.client.errors import JobServiceError
from job_service.client.response_stream import SILENCE, ResponseStream

if TYPE_CHECKING:
    from generation_jobs.v1.generation_job_service_pb2_grpc import GenerationJobServiceAsyncStub


class JobsWatch:
    """Follows many jobs. After ``next`` has failed with UNAVAILABLE it may be called again."""

    def __init__(
        self,
        stub: "GenerationJobServiceAsyncStub",
        matching: JobFilter | None,
        *,
        resume_token: str,
        changes_only: bool,
    ) -> None:
        self._stub = stub
        self._request = WatchJobsRequest(
            filter=matching, resume_token=resume_token, changes_only=changes_only
        )
        self._stream: ResponseStream[WatchJobsRequest, WatchJobsResponse] | None = None
        # An opening that broke off cannot be resumed. What it told and the next one does not is
        # gone.
        self._told: set[int] = set()
        self._told_before: set[int] = set()
        self._gone: deque[int] = deque()

    async def next(self) -> WatchJobsResponse:
        """Answer the next message, opening the stream if there is none."""
        if self._gone:
            return WatchJobsResponse(removed_job_id=self._gone.popleft())
        if self._stream is None:
            self._told_before |= self._told
            self._told.clear()
            self._stream = ResponseStream(self._stub.WatchJobs(self._request), SILENCE)
        try:
            message = await self._stream.next()
        except JobServiceError:
            self.close()
            raise
        if message is None:
            self.close()
            raise JobServiceError(grpc.StatusCode.UNAVAILABLE, "the stream ended")
        self._note(message)
        return message

    def close(self) -> None:
        """End the stream, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _note(self, message: WatchJobsResponse) -> None:
        if message.resume_token:
            if not self._request.resume_token:
                self._gone.extend(sorted(self._told_before - self._told))
                self._told, self._told_before = set(), set()
            self._request.resume_token = message.resume_token
        elif not self._request.resume_token and message.HasField("job"):
            self._told.add(message.job.id)
