"""OperatorService as operators speak it."""

from typing import TYPE_CHECKING, Any

import grpc
from generation_jobs.v1 import attempt_pb2, job_pb2, operator_service_pb2_grpc
from generation_jobs.v1 import operator_service_pb2 as pb

if TYPE_CHECKING:
    from generation_jobs.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub


class ProtocolOperator:
    """One operator."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: OperatorServiceAsyncStub = operator_service_pb2_grpc.OperatorServiceStub(channel)

    async def workers(self, *, include_gone: bool = False) -> list[pb.Worker]:
        request = pb.ListWorkersRequest(include_gone=include_gone)
        return list((await self.stub.ListWorkers(request, timeout=20)).workers)

    async def worker(self, name: str) -> pb.Worker:
        return (await self.stub.GetWorker(pb.GetWorkerRequest(name=name), timeout=20)).worker

    async def drain(self, name: str) -> pb.Worker:
        return (await self.stub.DrainWorker(pb.DrainWorkerRequest(name=name), timeout=20)).worker

    async def resume(self, name: str) -> pb.Worker:
        return (await self.stub.ResumeWorker(pb.ResumeWorkerRequest(name=name), timeout=20)).worker

    async def attempts(self, job_id: int) -> list[attempt_pb2.Attempt]:
        request = pb.ListAttemptsRequest(job_id=job_id)
        return list((await self.stub.ListAttempts(request, timeout=20)).attempts)

    async def explain(self, job_id: int) -> pb.ExplainJobResponse:
        return await self.stub.ExplainJob(pb.ExplainJobRequest(job_id=job_id), timeout=20)

    async def requeue(self, job_id: int) -> job_pb2.GenerationJob:
        return (await self.stub.RequeueJob(pb.RequeueJobRequest(job_id=job_id), timeout=20)).job

    async def fail_now(self, job_id: int, reason: str = "no more of this") -> job_pb2.GenerationJob:
        request = pb.FailJobNowRequest(job_id=job_id, reason=reason)
        return (await self.stub.FailJobNow(request, timeout=20)).job

    async def pause(self, reason: str = "", **selector: Any) -> int:
        """Pause dispatch; the number of pending jobs it concerns."""
        request = pb.PauseDispatchRequest(selector=pb.DispatchSelector(**selector), reason=reason)
        return (await self.stub.PauseDispatch(request, timeout=20)).affected_pending

    async def unpause(self, **selector: Any) -> int:
        """Resume dispatch; the number of pending jobs it concerns."""
        request = pb.ResumeDispatchRequest(selector=pb.DispatchSelector(**selector))
        return (await self.stub.ResumeDispatch(request, timeout=20)).affected_pending
