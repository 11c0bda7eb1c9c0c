"""OperatorClient: OperatorService with deadlines, safe retries and typed errors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc
from generation_jobs.v1.attempt_pb2 import Attempt
from generation_jobs.v1.job_pb2 import GenerationJob
from generation_jobs.v1.operator_service_pb2 import (
    DispatchSelector,
    DrainWorkerRequest,
    ExplainJobRequest,
    ExplainJobResponse,
    FailJobNowRequest,
    ListAttemptsRequest,
    ListWorkersRequest,
    PauseDispatchRequest,
    PauseDispatchResponse,
    RequeueJobRequest,
    ResumeDispatchRequest,
    ResumeDispatchResponse,
    ResumeWorkerRequest,
    Worker,
)
from generation_jobs.v1.operator_service_pb2_grpc import OperatorServiceStub

from job_service.client.unary_call import READ_DEADLINE, WRITE_DEADLINE, answer, repeated_answer

if TYPE_CHECKING:
    from generation_jobs.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub


class OperatorClient:
    """What whoever runs the service does; ``JobServiceClient.operators`` answers it.

    Every call raises JobServiceError; with ROLE_NOT_ALLOWED unless the token is an admin's.
    """

    def __init__(self, channel: grpc.aio.Channel, retry_for: float) -> None:
        self._stub: OperatorServiceAsyncStub = OperatorServiceStub(channel)
        self._retry_for = retry_for

    async def list_workers(self, *, include_gone: bool = False) -> Sequence[Worker]:
        """Read who works, by name; ``include_gone``: also who has not been heard of lately."""
        request = ListWorkersRequest(include_gone=include_gone)
        method = self._stub.ListWorkers
        response = await repeated_answer(method, request, READ_DEADLINE, self._retry_for)
        return response.workers

    async def drain_worker(self, name: str) -> Worker:
        """Have a worker take no more jobs, also after a restart, until it is resumed."""
        request = DrainWorkerRequest(name=name)
        method = self._stub.DrainWorker
        return (await repeated_answer(method, request, WRITE_DEADLINE, self._retry_for)).worker

    async def resume_worker(self, name: str) -> Worker:
        """Let a drained worker take jobs again."""
        request = ResumeWorkerRequest(name=name)
        method = self._stub.ResumeWorker
        return (await repeated_answer(method, request, WRITE_DEADLINE, self._retry_for)).worker

    async def list_attempts(self, job_id: int) -> Sequence[Attempt]:
        """Read every attempt of a job, oldest first."""
        request = ListAttemptsRequest(job_id=job_id)
        method = self._stub.ListAttempts
        response = await repeated_answer(method, request, READ_DEADLINE, self._retry_for)
        return response.attempts

    async def explain_job(self, job_id: int) -> ExplainJobResponse:
        """Read why a job is where it is, and what happens next."""
        request = ExplainJobRequest(job_id=job_id)
        return await repeated_answer(self._stub.ExplainJob, request, READ_DEADLINE, self._retry_for)

    async def requeue_job(self, job_id: int) -> GenerationJob:
        """Take a running job from its worker, or run a failed or cancelled one again.

        Never repeated: after a lost answer, it would take the job from its next worker.
        """
        request = RequeueJobRequest(job_id=job_id)
        return (await answer(self._stub.RequeueJob, request, WRITE_DEADLINE)).job

    async def fail_job_now(self, job_id: int, reason: str) -> GenerationJob:
        """End a job that has not ended; ``reason`` is for its user.

        Never repeated: after a lost answer, WRONG_STATE may mean that it has failed.
        """
        request = FailJobNowRequest(job_id=job_id, reason=reason)
        return (await answer(self._stub.FailJobNow, request, WRITE_DEADLINE)).job

    async def pause_dispatch(
        self, selector: DispatchSelector, reason: str = ""
    ) -> PauseDispatchResponse:
        """Keep jobs of a backend label or checkpoint waiting."""
        request = PauseDispatchRequest(selector=selector, reason=reason)
        return await repeated_answer(
            self._stub.PauseDispatch, request, WRITE_DEADLINE, self._retry_for
        )

    async def resume_dispatch(self, selector: DispatchSelector) -> ResumeDispatchResponse:
        """End a pause."""
        request = ResumeDispatchRequest(selector=selector)
        return await repeated_answer(
            self._stub.ResumeDispatch, request, WRITE_DEADLINE, self._retry_for
        )
