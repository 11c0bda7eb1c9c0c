# ruff: noqa: N802 - named in the contract
"""A WorkerService between worker and job_service that says what is in the leases.

Everything else goes through to the real service and back.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from generation_jobs.v1 import artifact_pb2, worker_service_pb2_grpc
from generation_jobs.v1 import worker_service_pb2 as pb

_CHUNK = 1000
"""Smaller than the inputs of the tests, so that they come in several."""

Context = grpc.aio.ServicerContext[Any, Any]


class LeaseEditor(worker_service_pb2_grpc.WorkerServiceServicer):
    """Puts ``graph`` and ``inputs`` into every lease that passes.

    ``inputs`` is content by name; ``reads`` counts how often each was read. ``lost`` inputs are
    not found, of ``damaged`` ones so many reads come with other bytes. ``uploads`` are the media
    types of the files that came in each call; an empty list is a file by itself. ``completions``
    counts calls of CompleteJob. ``answers_completions_late``: only after a
    report of progress that is under way has been answered with what the completion made of it.
    Files go on while ``files_pass`` is set; ``files_come`` is released by each call that brings
    some. ``given_up`` counts calls of LeaseJobs that the worker
    did not wait for.
    """

    def __init__(self, service: str) -> None:
        self.address = ""
        self.graph: Mapping[str, Any] | str = {}
        self.inputs: dict[str, bytes] = {}
        self.reads: dict[str, int] = {}
        self.lost: set[str] = set()
        self.damaged: dict[str, int] = {}
        self.uploads: list[list[str]] = []
        self.completions = 0
        self.takes_files_together = True
        self.completes_with_files = True
        self.answers_completions_late = False
        self.files_pass = asyncio.Event()
        self.files_pass.set()
        self.files_come = asyncio.Semaphore(0)
        self.given_up = 0
        self.reporting = asyncio.Event()
        self._has_completed = asyncio.Event()
        self._has_told = asyncio.Event()
        self._service = service
        self._stub: Any = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["LeaseEditor"]:
        server = grpc.aio.server()
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(self._service) as channel:
            self._stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
            await server.start()
            try:
                yield self
            finally:
                await server.stop(None)

    async def LeaseJobs(self, request: pb.LeaseJobsRequest, context: Context) -> Any:
        try:
            answer = await self._pass(self._stub.LeaseJobs, request, context)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        for lease in answer.leases:
            if self.graph:
                text = self.graph if isinstance(self.graph, str) else json.dumps(self.graph)
                lease.workflow_json = text
            lease.ClearField("inputs")
            for number, (name, content) in enumerate(self.inputs.items(), start=1):
                lease.inputs.add(name=name, input=asset(number, content))
        return answer

    async def ReadInput(self, request: pb.ReadInputRequest, context: Context) -> Any:
        name, content = list(self.inputs.items())[request.input_id - 1]
        self.reads[name] = self.reads.get(name, 0) + 1
        if name in self.lost:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such input")
        yield pb.ReadInputResponse(input=asset(request.input_id, content))
        if self.damaged.get(name, 0) > 0:
            self.damaged[name] -= 1
            content = content[::-1]
        for start in range(0, len(content), _CHUNK):
            yield pb.ReadInputResponse(chunk=content[start : start + _CHUNK])

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> Any:
        return await self._pass(self._stub.Heartbeat, request, context)

    async def ReportProgress(self, request: pb.ReportProgressRequest, context: Context) -> Any:
        self.reporting.set()
        if self.answers_completions_late:
            await self._has_completed.wait()
            # called with the context, whatever the stubs say
            context.add_done_callback(lambda _: self._has_told.set())  # type: ignore[arg-type]
        return await self._pass(self._stub.ReportProgress, request, context)

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[pb.UploadArtifactRequest], context: Context
    ) -> Any:
        self.uploads.append([])
        return await self._pass(self._stub.UploadArtifact, request_iterator, context)

    async def UploadArtifacts(self, request: pb.UploadArtifactsRequest, context: Context) -> Any:
        self.uploads.append([file.header.content_type for file in request.files])
        if not self.takes_files_together:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        if not self.completes_with_files:  # nor knows of it
            request.ClearField("completion")
        self.files_come.release()
        await self.files_pass.wait()
        answer = await self._pass(self._stub.UploadArtifacts, request, context)
        if self.answers_completions_late:
            self._has_completed.set()
            await self._has_told.wait()
        return answer

    async def CompleteJob(self, request: pb.CompleteJobRequest, context: Context) -> Any:
        self.completions += 1
        return await self._pass(self._stub.CompleteJob, request, context)

    async def FailJob(self, request: pb.FailJobRequest, context: Context) -> Any:
        return await self._pass(self._stub.FailJob, request, context)

    async def ReleaseJob(self, request: pb.ReleaseJobRequest, context: Context) -> Any:
        return await self._pass(self._stub.ReleaseJob, request, context)

    async def ReportCatalogue(self, request: pb.ReportCatalogueRequest, context: Context) -> Any:
        return await self._pass(self._stub.ReportCatalogue, request, context)

    async def _pass(
        self, method: Callable[..., Awaitable[Any]], request: Any, context: Context
    ) -> Any:
        try:
            return await method(request, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await context.abort(
                error.code(), error.details() or "", error.trailing_metadata() or ()
            )


def asset(number: int, content: bytes) -> artifact_pb2.InputAsset:
    """What the service says of an uploaded PNG."""
    return artifact_pb2.InputAsset(
        id=number,
        filename="picture.png",
        content_type="image/png",
        size=len(content),
        sha256=hashlib.sha256(content).digest(),
    )
