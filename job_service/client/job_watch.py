"""WatchJob, opened whenever there is no stream to read from."""

from typing import TYPE_CHECKING

import grpc
from generation_jobs.v1.generation_job_service_pb2 import WatchJobRequest, WatchJobResponse
from generation_jobs.v1.job_pb2 import JobStatus

from job_service.client.errors import JobServiceError
from job_service.client.response_stream import SILENCE, ResponseStream

if TYPE_CHECKING:
    from generation_jobs.v1.generation_job_service_pb2_grpc import GenerationJobServiceAsyncStub

_FINAL = frozenset(
    {
        JobStatus.JOB_STATUS_COMPLETED,
        JobStatus.JOB_STATUS_FAILED,
        JobStatus.JOB_STATUS_CANCELLED,
    }
)


class JobWatch:
    """Follows one job. After ``next`` has failed with UNAVAILABLE it may be called again.

    ``finished`` is True once the job was seen in a final state.
    """

    def __init__(
        self,
        stub: "GenerationJobServiceAsyncStub",
        job_id: int,
        *,
        include_previews: bool,
    ) -> None:
        self._stub = stub
        self._request = WatchJobRequest(id=job_id, include_previews=include_previews)
        self._stream: ResponseStream[WatchJobRequest, WatchJobResponse] | None = None
        self.finished = False

    async def next(self) -> WatchJobResponse:
        """Answer the next message, opening the stream if there is none."""
        if self._stream is None:
            self._stream = ResponseStream(self._stub.WatchJob(self._request), SILENCE)
        try:
            message = await self._stream.next()
        except JobServiceError:
            self.close()
            raise
        if message is None:
            self.close()
            raise JobServiceError(
                grpc.StatusCode.UNAVAILABLE, "the stream ended before the job had"
            )
        self.finished = message.HasField("job") and message.job.status in _FINAL
        return message

    def close(self) -> None:
        """End the stream, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
