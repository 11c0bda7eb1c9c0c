"""GenerationJobService as its clients speak it, and what its errors say."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from generation_jobs.v1 import (
    artifact_pb2,
    generation_job_service_pb2_grpc,
    job_pb2,
)
from generation_jobs.v1 import generation_job_service_pb2 as pb
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.worker_protocol import CHECKPOINT

if TYPE_CHECKING:
    from generation_jobs.v1.generation_job_service_pb2_grpc import GenerationJobServiceAsyncStub

PENDING = job_pb2.JOB_STATUS_PENDING
RUNNING = job_pb2.JOB_STATUS_RUNNING
COMPLETED = job_pb2.JOB_STATUS_COMPLETED
FAILED = job_pb2.JOB_STATUS_FAILED
CANCELLED = job_pb2.JOB_STATUS_CANCELLED


def a_job(**fields: Any) -> job_pb2.GenerationJob:
    """A job that every ProtocolWorker can run, unless ``fields`` say otherwise."""
    return job_pb2.GenerationJob(
        **{"prompt": "a lighthouse", "checkpoint_model": CHECKPOINT, **fields}
    )


def in_an_hour() -> timestamp_pb2.Timestamp:
    """A time that no test waits for."""
    later = timestamp_pb2.Timestamp()
    later.GetCurrentTime()
    later.seconds += 3600
    return later


class ProtocolClient:
    """One client of GenerationJobService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: GenerationJobServiceAsyncStub = (
            generation_job_service_pb2_grpc.GenerationJobServiceStub(channel)
        )

    async def create(self, *, request_id: str = "", **fields: Any) -> job_pb2.GenerationJob:
        """Create ``a_job``."""
        return await self.send(pb.CreateJobRequest(job=a_job(**fields), request_id=request_id))

    async def send(self, request: pb.CreateJobRequest) -> job_pb2.GenerationJob:
        return (await self.stub.CreateJob(request, timeout=20)).job

    async def get(self, job_id: int) -> job_pb2.GenerationJob:
        return (await self.stub.GetJob(pb.GetJobRequest(id=job_id), timeout=20)).job

    async def list_jobs(self, **fields: Any) -> pb.ListJobsResponse:
        return await self.stub.ListJobs(pb.ListJobsRequest(**fields), timeout=20)

    async def cancel(self, job_id: int, reason: str = "") -> job_pb2.GenerationJob:
        request = pb.CancelJobRequest(id=job_id, reason=reason)
        return (await self.stub.CancelJob(request, timeout=20)).job

    async def delete(self, job_id: int, *, cancel: bool = False) -> bool:
        request = pb.DeleteJobRequest(id=job_id, cancel=cancel)
        return (await self.stub.DeleteJob(request, timeout=20)).deleted

    async def read(
        self, artifact_id: int, thumbnail_size: int = 0
    ) -> tuple[artifact_pb2.Artifact, list[bytes]]:
        """An artifact and its chunks."""
        request = pb.ReadArtifactRequest(artifact_id=artifact_id, thumbnail_size=thumbnail_size)
        first, *others = [message async for message in self.stub.ReadArtifact(request, timeout=20)]
        assert first.WhichOneof("content") == "artifact"
        assert all(message.WhichOneof("content") == "chunk" for message in others)
        return first.artifact, [message.chunk for message in others]

    @asynccontextmanager
    async def watching(self, job_id: int, **fields: Any) -> AsyncIterator["Watch"]:
        """A watch of one job, whose snapshot has arrived."""
        call = self.stub.WatchJob(pb.WatchJobRequest(id=job_id, **fields), timeout=60)
        watch = Watch(call)
        try:
            await watch.next_job()
            yield watch
        finally:
            call.cancel()

    @asynccontextmanager
    async def watching_jobs(
        self, matching: job_pb2.JobFilter | None = None, **fields: Any
    ) -> AsyncIterator["JobsWatch"]:
        """A watch of many jobs whose opening has arrived."""
        call = self.stub.WatchJobs(pb.WatchJobsRequest(filter=matching, **fields), timeout=90)
        watch = JobsWatch(call)
        try:
            while not watch.token:
                await watch.next_message()
            yield watch
        finally:
            call.cancel()

    async def seen(self, job_id: int, *statuses: "job_pb2.JobStatus.ValueType") -> Any:
        """The job, as soon as it is in one of these states."""
        async with self.watching(job_id) as watch:
            return await watch.until(*statuses)


class JobsWatch:
    """What a WatchJobs stream has said.

    ``jobs``: the matching jobs, as far as it has told; ``removed``: the others; both in the order
    of telling.
    """

    def __init__(self, call: Any) -> None:
        self._messages = aiter(call)
        self.jobs: dict[int, job_pb2.GenerationJob] = {}
        self.removed: list[int] = []
        self.messages: list[pb.WatchJobsResponse] = []
        self.token = ""

    async def next_message(self) -> pb.WatchJobsResponse:
        """The next message of any kind."""
        async with asyncio.timeout(30):
            message: pb.WatchJobsResponse = await anext(self._messages)
        self.messages.append(message)
        self.token = message.resume_token or self.token
        match message.WhichOneof("event"):
            case "job":
                self.jobs[message.job.id] = message.job
            case "removed_job_id":
                self.jobs.pop(message.removed_job_id, None)
                self.removed.append(message.removed_job_id)
        return message

    async def until(self, fulfilled: Callable[["JobsWatch"], object]) -> None:
        """Read until a condition is fulfilled."""
        while not fulfilled(self):
            await self.next_message()


class Watch:
    """What a WatchJob stream has said."""

    def __init__(self, call: Any) -> None:
        self._messages = aiter(call)
        self.job = job_pb2.GenerationJob()
        self.position: pb.QueuePosition | None = None

    async def next_message(self) -> pb.WatchJobResponse:
        """The next message of any kind."""
        async with asyncio.timeout(30):
            return await anext(self._messages)

    async def next_job(self) -> job_pb2.GenerationJob:
        """The next message that holds the job."""
        while (message := await self.next_message()).WhichOneof("event") != "job":
            pass
        self.job = message.job
        stands = message.HasField("queue_position")
        self.position = message.queue_position if stands else None
        return self.job

    async def until(self, *statuses: "job_pb2.JobStatus.ValueType") -> job_pb2.GenerationJob:
        """The job as it is once in one of these states."""
        while self.job.status not in statuses:
            await self.next_job()
        return self.job

    async def rest(self) -> list[pb.WatchJobResponse]:
        """Every message until the stream ends with OK."""
        async with asyncio.timeout(30):
            return [message async for message in self._messages]


@dataclass(frozen=True, slots=True)
class Refused:
    """A status with its details."""

    status: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    metadata: dict[str, str]
    details_bytes: int
    message: str


def refusal(error: grpc.aio.AioRpcError) -> Refused:
    """What an error of this service says; every one must carry ErrorInfo of its domain."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it is a call's outcome too
    assert status is not None, f"no details: {error.code()} {error.details()}"
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    assert info.domain == "generation-jobs"
    assert info.reason
    assert info.reason.upper() == info.reason
    return Refused(
        status=error.code(),
        reason=info.reason,
        fields=tuple(violation.field for violation in bad.field_violations),
        metadata=dict(info.metadata),
        details_bytes=status.ByteSize(),
        message=status.message,
    )


async def refused(call: Awaitable[Any]) -> Refused:
    """The error that ``call`` must end with."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    raise AssertionError(f"answered {answer!r}")
