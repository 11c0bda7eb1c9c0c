"""JobServiceClient: the services for clients and operators, with safe retries and typed errors."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from uuid import UUID, uuid4

import grpc
from generation_jobs.v1.artifact_pb2 import Artifact, InputAsset
from generation_jobs.v1.generation_job_service_pb2 import (
    BatchCreateJobsRequest,
    CancelJobRequest,
    CreateJobRequest,
    DeleteJobRequest,
    GetArtifactUrlRequest,
    GetJobRequest,
    GetQueueStatsRequest,
    GetQueueStatsResponse,
    GetTemplateRequest,
    JobOrder,
    ListJobsRequest,
    ListTemplatesRequest,
    ReadArtifactRequest,
    ReadArtifactResponse,
    RetryJobRequest,
    WatchJobResponse,
    WatchJobsResponse,
)
from generation_jobs.v1.generation_job_service_pb2_grpc import GenerationJobServiceStub
from generation_jobs.v1.job_pb2 import GenerationJob, JobFilter, JobView
from generation_jobs.v1.workflow_template_pb2 import WorkflowTemplate

from job_service.client.artifact_file import IncompleteFileError, VerifiedFile
from job_service.client.channel import Tls, TokenFile, open_channel
from job_service.client.errors import JobServiceError
from job_service.client.input_file import InputFile
from job_service.client.job_watch import JobWatch
from job_service.client.jobs_watch import JobsWatch
from job_service.client.operators import OperatorClient
from job_service.client.response_stream import ResponseStream
from job_service.client.retrying import until_available
from job_service.client.unary_call import READ_DEADLINE, WRITE_DEADLINE, answer, repeated_answer

if TYPE_CHECKING:
    from generation_jobs.v1.generation_job_service_pb2_grpc import GenerationJobServiceAsyncStub

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

# Seconds.
_DOWNLOAD_SILENCE = 30.0
_UPLOAD_DEADLINE = 300.0

_PAGE_SIZE = 200


def new_request_id() -> str:
    """Draw a request_id for a job that has none."""
    return str(uuid4())


class JobServiceClient:
    """An async context manager that owns one connection to the service.

    ``address`` is "host:port", or "grpcs://host:port" for TLS; ``tls`` switches TLS on, too, and
    says whom to trust. The token goes along with every call: ``token``, or the content of
    ``token_file``, read again when it changes; without TLS it leaves this machine only with
    ``token_in_clear``. A gateway acts for the user ``on_behalf_of``.
    While the service is UNAVAILABLE, calls that are safe to repeat are repeated for ``retry_for``
    seconds.

    Entering raises CredentialsError for an address, a token or a certificate that cannot be used,
    and OSError if a file cannot be read. Every call raises JobServiceError.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        token: str | None = None,
        token_file: Path | None = None,
        tls: Tls | None = None,
        on_behalf_of: UUID | None = None,
        retry_for: float = 10.0,
        token_in_clear: bool = False,
    ) -> None:
        if token is not None and token_file is not None:
            raise ValueError("give a token or a file with one, not both")
        self._address = address
        self._token = token
        self._token_file = token_file
        self._tls = tls
        self._on_behalf_of = on_behalf_of
        self._retry_for = retry_for
        self._token_in_clear = token_in_clear
        self._channel: grpc.aio.Channel | None = None
        self._stub: GenerationJobServiceAsyncStub | None = None
        self._operators: OperatorClient | None = None

    async def __aenter__(self) -> Self:
        token = TokenFile(self._token_file) if self._token_file is not None else self._token
        self._channel = open_channel(
            self._address,
            token,
            self._tls,
            self._on_behalf_of,
            token_in_clear=self._token_in_clear,
        )
        self._stub = GenerationJobServiceStub(self._channel)
        self._operators = OperatorClient(self._channel, self._retry_for)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._stub = self._operators = None

    @property
    def stub(self) -> "GenerationJobServiceAsyncStub":
        """The generated stub, token included, for RPCs that need nothing from this class.

        It raises grpc.aio.AioRpcError: ``JobServiceError.from_rpc_error`` decodes it.
        """
        if self._stub is None:
            raise RuntimeError("JobServiceClient is used inside 'async with'")
        return self._stub

    @property
    def operators(self) -> OperatorClient:
        """OperatorService over the same connection; for admins."""
        if self._operators is None:
            raise RuntimeError("JobServiceClient is used inside 'async with'")
        return self._operators

    async def create_job(self, job: GenerationJob, request_id: str | None = None) -> GenerationJob:
        """Have something generated; answer the job as stored, every default filled in.

        Safe to repeat: without a ``request_id`` one is drawn, and repeating with the same
        one answers the job stored first.
        """
        request = CreateJobRequest(job=job, request_id=request_id or new_request_id())
        response = await self._repeatable(self.stub.CreateJob, request, WRITE_DEADLINE)
        return response.job

    async def create_jobs(self, requests: Iterable[CreateJobRequest]) -> list[GenerationJob]:
        """Have up to 1,000 things generated, all or none; answer the jobs in their order.

        Safe to repeat: requests without a ``request_id`` are sent with one that is drawn. When
        they are more than 3 MiB, the last jobs are answered with their id and status alone.
        """
        batch = BatchCreateJobsRequest(requests=requests)
        for request in batch.requests:
            request.request_id = request.request_id or new_request_id()
        return [*(await self._repeatable(self.stub.BatchCreateJobs, batch, WRITE_DEADLINE)).jobs]

    async def get_job(
        self, job_id: int, view: JobView.ValueType = JobView.JOB_VIEW_FULL
    ) -> GenerationJob:
        """Read one job."""
        request = GetJobRequest(id=job_id, view=view)
        return (await self._repeatable(self.stub.GetJob, request, READ_DEADLINE)).job

    async def list_jobs(
        self,
        matching: JobFilter | None = None,
        *,
        order_by: JobOrder.ValueType = JobOrder.JOB_ORDER_CREATED_DESC,
        view: JobView.ValueType = JobView.JOB_VIEW_BASIC,
        limit: int | None = None,
    ) -> AsyncGenerator[GenerationJob, None]:
        """Yield the jobs that match, at most ``limit``, fetching pages as they are needed."""
        left = limit
        token = ""
        while left is None or left > 0:
            request = ListJobsRequest(
                filter=matching,
                order_by=order_by,
                view=view,
                page_size=_PAGE_SIZE if left is None else min(left, _PAGE_SIZE),
                page_token=token,
            )
            page = await self._repeatable(self.stub.ListJobs, request, READ_DEADLINE)
            for job in page.jobs[:left]:
                yield job
            left = None if left is None else left - len(page.jobs)
            token = page.next_page_token
            if not token:
                return

    async def cancel_job(self, job_id: int, reason: str = "") -> GenerationJob:
        """Stop a job; answer it as it is then. A running one ends shortly after: watch it."""
        request = CancelJobRequest(id=job_id, reason=reason)
        return (await self._repeatable(self.stub.CancelJob, request, WRITE_DEADLINE)).job

    async def retry_job(self, job_id: int) -> GenerationJob:
        """Run a failed or cancelled job again, with a fresh budget of attempts.

        Never repeated: after a lost answer, WRONG_STATE may mean that it is pending again.
        """
        return (await answer(self.stub.RetryJob, RetryJobRequest(id=job_id), WRITE_DEADLINE)).job

    async def list_templates(self) -> AsyncGenerator[WorkflowTemplate, None]:
        """Yield the newest version of each template by name, without its graph."""
        token = ""
        while True:
            request = ListTemplatesRequest(page_size=_PAGE_SIZE, page_token=token)
            page = await self._repeatable(self.stub.ListTemplates, request, READ_DEADLINE)
            for template in page.templates:
                yield template
            token = page.next_page_token
            if not token:
                return

    async def get_template(self, name: str, version: int = 0) -> WorkflowTemplate:
        """Read a template; the newest version unless one is named."""
        request = GetTemplateRequest(name=name, version=version)
        return (await self._repeatable(self.stub.GetTemplate, request, READ_DEADLINE)).template

    async def queue_stats(self) -> GetQueueStatsResponse:
        """Read the state of the queue."""
        request = GetQueueStatsRequest()
        return await self._repeatable(self.stub.GetQueueStats, request, READ_DEADLINE)

    async def delete_job(self, job_id: int, *, cancel: bool = False) -> bool:
        """Remove a job and its artifacts; False: once its worker has let go of it.

        Never repeated: after a lost answer, JOB_NOT_FOUND may mean that it is gone.
        """
        request = DeleteJobRequest(id=job_id, cancel=cancel)
        return (await answer(self.stub.DeleteJob, request, WRITE_DEADLINE)).deleted

    async def watch(
        self,
        job_id: int,
        *,
        include_previews: bool = False,
        reconnect_for: float = 300.0,
        on_interruption: Callable[[JobServiceError], None] | None = None,
    ) -> AsyncGenerator[WatchJobResponse, None]:
        """Yield the job as it is, then each change, until it rests in a final state.

        Every message holds ``job`` or, if asked for, ``preview``. A broken stream is opened
        again for ``reconnect_for`` seconds (``retry_for`` before the first message), and
        ``on_interruption`` hears why; nothing is missed but states in between. Who leaves
        early closes the generator (``aclose``), which ends the call.
        """
        watch = JobWatch(self.stub, job_id, include_previews=include_previews)
        patience = self._retry_for
        try:
            while not watch.finished:
                message = await until_available(watch.next, patience, on_interruption)
                patience = reconnect_for
                if not message.HasField("keep_alive"):
                    yield message
        finally:
            watch.close()

    async def watch_jobs(
        self,
        matching: JobFilter | None = None,
        *,
        resume_token: str = "",
        changes_only: bool = False,
        reconnect_for: float = 300.0,
        on_interruption: Callable[[JobServiceError], None] | None = None,
    ) -> AsyncGenerator[WatchJobsResponse, None]:
        """Yield the matching jobs, then each change, for ever; keep-alives included.

        The first message with a token ends the opening; the last token seen is what a later
        watch goes on from, in another process too. A broken stream is opened again as in
        ``watch``, and nothing is missed but states in between. RESUME_TOKEN_EXPIRED: begin
        anew without a token, and with an empty list of jobs.
        """
        watch = JobsWatch(self.stub, matching, resume_token=resume_token, changes_only=changes_only)
        patience = self._retry_for
        try:
            while True:
                message = await until_available(watch.next, patience, on_interruption)
                patience = reconnect_for
                yield message
        finally:
            watch.close()

    async def artifact_url(
        self,
        artifact_id: int,
        *,
        thumbnail_size: int = 0,
        lifetime: timedelta = timedelta(minutes=15),
    ) -> str:
        """A URL that gives an artifact's bytes (or its thumbnail's) to anybody for a while.

        NO_ARTIFACT_URLS: the service's store has none; ``download`` always works.
        """
        request = GetArtifactUrlRequest(artifact_id=artifact_id, thumbnail_size=thumbnail_size)
        request.lifetime.FromTimedelta(lifetime)
        return (await self._repeatable(self.stub.GetArtifactUrl, request, READ_DEADLINE)).url

    async def download(
        self,
        artifact_id: int,
        path: Path,
        *,
        thumbnail_size: int = 0,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Artifact:
        """Write an artifact's content (or its thumbnail's) to ``path``; answer what it is.

        The file takes its name once size and SHA-256 are right; what had the name before is
        replaced. ``on_bytes`` hears how many bytes there are. Raises OSError if the file
        cannot be written; JobServiceError with DATA_LOSS / CONTENT_MISMATCH if the bytes
        that arrived are not those announced.
        """
        request = ReadArtifactRequest(artifact_id=artifact_id, thumbnail_size=thumbnail_size)
        return await until_available(
            partial(self._download, request, path, on_bytes), self._retry_for
        )

    async def upload_input(self, path: Path, *, user_id: str = "") -> InputAsset:
        """Store a picture that jobs can start from; answer what it is, its id above all.

        Safe to repeat: the same content of the same user is stored once. ``user_id`` is whose it
        is, if not the caller's own. Raises OSError if the file cannot be read.
        """
        return await until_available(partial(self._upload, path, user_id), self._retry_for)

    async def _upload(self, path: Path, user_id: str) -> InputAsset:
        with InputFile(path, user_id) as file:
            try:
                call = self.stub.UploadInput(file.messages(), timeout=_UPLOAD_DEADLINE)
                return (await call).input
            except grpc.aio.AioRpcError as error:
                raise JobServiceError.from_rpc_error(error) from error
            except asyncio.CancelledError:
                if file.error is not None:
                    raise file.error from None
                raise

    async def _download(
        self,
        request: ReadArtifactRequest,
        path: Path,
        on_bytes: Callable[[int], None] | None,
    ) -> Artifact:
        stream: ResponseStream[ReadArtifactRequest, ReadArtifactResponse] = ResponseStream(
            self.stub.ReadArtifact(request), _DOWNLOAD_SILENCE
        )
        try:
            first = await stream.next()
            if first is None or not first.HasField("artifact"):
                raise _damaged("the answer does not begin with what the artifact is")
            artifact = first.artifact
            with VerifiedFile(path) as file:
                while message := await stream.next():
                    size = await asyncio.to_thread(file.write, message.chunk)
                    if on_bytes is not None:
                        on_bytes(size)
                await asyncio.to_thread(file.commit, size=artifact.size, sha256=artifact.sha256)
        except IncompleteFileError as error:
            raise _damaged(str(error)) from error
        finally:
            stream.close()
        return artifact

    async def _repeatable(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        deadline: float,
    ) -> _Response:
        return await repeated_answer(method, request, deadline, self._retry_for)


def _damaged(message: str) -> JobServiceError:
    return JobServiceError(grpc.StatusCode.DATA_LOSS, message, reason="CONTENT_MISMATCH")
