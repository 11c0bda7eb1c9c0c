"""A request of every RPC that the service answers with OK, made when it is wanted."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self
from uuid import uuid4

import grpc
from generation_jobs.v1 import (
    artifact_pb2,
    job_error_pb2,
    job_pb2,
    model_service_pb2,
    operator_service_pb2,
    worker_service_pb2,
    workflow_template_pb2,
)
from generation_jobs.v1 import generation_job_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from tests.inputs_protocol import InputClient, picture
from tests.jobs_protocol import ProtocolClient, a_job, in_an_hour
from tests.worker_protocol import CHECKPOINT, ProtocolWorker, artifact_file, artifact_header, ref

GRAPH: Final = (
    '{"1": {"class_type": "LoadImage", "inputs": {"image": "input://picture"}},'
    ' "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}}'
)
CONTENT: Final = b"a picture"


class ValidRequests:
    """A client and a worker who do everything right, each time with a job of their own.

    The worker takes jobs for the backend of its name, so several of these keep out of each other's
    way.
    """

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self._client = ProtocolClient(channel)
        self._inputs = InputClient(channel)
        self._backend = name
        self.worker = ProtocolWorker(channel, name)
        self.worker.offer.backend_labels.append(name)
        self._other_worker = ProtocolWorker(channel, f"{name}-other")

    async def ready(self) -> Self:
        """Have the service know the workers."""
        for catalogue in self.worker.catalogues:
            catalogue.node_classes.extend(["LoadImage", "SaveImage"])
        await self.worker.report_catalogue()
        await self.worker.lease(wait=0)
        await self._other_worker.lease(wait=0)  # to be drained
        return self

    async def of(self, rpc: str) -> list[Message]:
        """The messages of one call of the RPC with this name."""
        for kinds in (_OF_NOTHING, _OF_A_WORKER):
            if rpc in kinds:
                return list(kinds[rpc](self.worker))
        if rpc in _OF_A_JOB:
            return [_OF_A_JOB[rpc](await self._client.create(backend=self._backend))]
        if rpc in _OF_A_LEASE:
            lease = await self.lease()
            return list(_OF_A_LEASE[rpc](self.worker, lease))
        made: Callable[[], Awaitable[Message]] = getattr(self, f"_{_snake(rpc)}")
        return [await made()]

    async def lease(self, **fields: Any) -> worker_service_pb2.Lease:
        """A new job, leased."""
        created = await self._client.create(priority=100, backend=self._backend, **fields)
        while True:
            lease = await self.worker.lease_one()
            if lease.job_id == created.id:
                return lease

    async def completed(self) -> artifact_pb2.Artifact:
        """What a job has made that has run."""
        lease = await self.lease()
        stored = await self.worker.upload(lease, CONTENT)
        await self.worker.complete(lease, stored)
        return stored

    async def _retry_job(self) -> Message:
        created = await self._client.create(backend=self._backend)
        await self._client.cancel(created.id)
        return pb.RetryJobRequest(id=created.id)

    async def _read_artifact(self) -> Message:
        return pb.ReadArtifactRequest(artifact_id=(await self.completed()).id)

    async def _get_artifact_url(self) -> Message:
        return pb.GetArtifactUrlRequest(artifact_id=(await self.completed()).id)

    async def _update_template(self) -> Message:
        return pb.UpdateTemplateRequest(template=await self._stored_template())

    async def _delete_template(self) -> Message:
        return pb.DeleteTemplateRequest(name=(await self._stored_template()).name)

    async def _stored_template(self) -> workflow_template_pb2.WorkflowTemplate:
        request = pb.CreateTemplateRequest(template=_template())
        return (await self._client.stub.CreateTemplate(request, timeout=20)).template

    async def _read_input(self) -> Message:
        asset = await self._inputs.upload(picture(colour="navy"))
        lease = await self.lease(
            workflow_json=GRAPH,
            checkpoint_model="",
            prompt="x",
            inputs=[job_pb2.InputBinding(name="picture", input_id=asset.id)],
        )
        return worker_service_pb2.ReadInputRequest(lease=ref(lease), input_id=asset.id)


def _snake(rpc: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in rpc)[1:]


def _template() -> workflow_template_pb2.WorkflowTemplate:
    return workflow_template_pb2.WorkflowTemplate(
        name=f"template-{uuid4().hex[:12]}",
        workflow_json=GRAPH,
        parameters=[
            workflow_template_pb2.TemplateParameter(
                name="where",
                type=workflow_template_pb2.PARAMETER_TYPE_STRING,
                default_json='"x"',
                targets=[
                    workflow_template_pb2.NodeInputRef(node_id="2", input_name="filename_prefix")
                ],
            )
        ],
    )


_Worker = ProtocolWorker
_OF_NOTHING: Final[dict[str, Callable[[_Worker], Sequence[Message]]]] = {
    "CreateJob": lambda _: [pb.CreateJobRequest(job=a_job())],
    "BatchCreateJobs": lambda _: [
        pb.BatchCreateJobsRequest(requests=[pb.CreateJobRequest(job=a_job())])
    ],
    "ListJobs": lambda _: [pb.ListJobsRequest(page_size=3)],
    "BatchCancelJobs": lambda _: [
        pb.BatchCancelJobsRequest(filter=job_pb2.JobFilter(labels={"no": "such job"}))
    ],
    "WatchJobs": lambda _: [pb.WatchJobsRequest(changes_only=True)],
    "GetJobStats": lambda _: [pb.GetJobStatsRequest()],
    "GetQueueStats": lambda _: [pb.GetQueueStatsRequest()],
    "UploadInput": lambda _: [
        pb.UploadInputRequest(header=pb.InputHeader(filename="picture.png")),
        pb.UploadInputRequest(chunk=picture()),
    ],
    "CreateTemplate": lambda _: [pb.CreateTemplateRequest(template=_template())],
    "GetTemplate": lambda _: [pb.GetTemplateRequest(name="text-to-image")],
    "ListTemplates": lambda _: [pb.ListTemplatesRequest()],
    "ListModels": lambda _: [model_service_pb2.ListModelsRequest()],
    "RefreshModels": lambda _: [model_service_pb2.RefreshModelsRequest()],
    "ListWorkers": lambda _: [operator_service_pb2.ListWorkersRequest(include_gone=True)],
    "PauseDispatch": lambda _: [
        operator_service_pb2.PauseDispatchRequest(
            selector=operator_service_pb2.DispatchSelector(checkpoint_model="paused"), reason="x"
        )
    ],
    "ResumeDispatch": lambda _: [
        operator_service_pb2.ResumeDispatchRequest(
            selector=operator_service_pb2.DispatchSelector(checkpoint_model="paused")
        )
    ],
}
_OF_A_WORKER: Final[dict[str, Callable[[_Worker], Sequence[Message]]]] = {
    "GetWorker": lambda worker: [operator_service_pb2.GetWorkerRequest(name=worker.identity.name)],
    "DrainWorker": lambda worker: [
        operator_service_pb2.DrainWorkerRequest(name=f"{worker.identity.name}-other")
    ],
    "ResumeWorker": lambda worker: [
        operator_service_pb2.ResumeWorkerRequest(name=worker.identity.name)
    ],
    "LeaseJobs": lambda worker: [worker.lease_request(wait=0)],
    "Heartbeat": lambda worker: [worker_service_pb2.HeartbeatRequest(worker=worker.identity)],
    "ReportCatalogue": lambda worker: [
        worker_service_pb2.ReportCatalogueRequest(
            worker=worker.identity, catalogues=worker.catalogues
        )
    ],
}
_OF_A_JOB: Final[dict[str, Callable[[job_pb2.GenerationJob], Message]]] = {
    "GetJob": lambda job: pb.GetJobRequest(id=job.id),
    "UpdateJob": lambda job: pb.UpdateJobRequest(
        job=job_pb2.GenerationJob(
            id=job.id, negative_prompt="x", checkpoint_model=CHECKPOINT, scheduled_at=in_an_hour()
        ),
        update_mask=FieldMask(paths=["negative_prompt", "checkpoint_model", "scheduled_at"]),
    ),
    "DeleteJob": lambda job: pb.DeleteJobRequest(id=job.id, cancel=True),
    "CancelJob": lambda job: pb.CancelJobRequest(id=job.id, reason="x"),
    "SetJobContent": lambda job: pb.SetJobContentRequest(id=job.id, content_id=1),
    "WatchJob": lambda job: pb.WatchJobRequest(id=job.id),
    "ListAttempts": lambda job: operator_service_pb2.ListAttemptsRequest(job_id=job.id),
    "ExplainJob": lambda job: operator_service_pb2.ExplainJobRequest(job_id=job.id),
    "FailJobNow": lambda job: operator_service_pb2.FailJobNowRequest(job_id=job.id, reason="x"),
}
_Lease = worker_service_pb2.Lease
_OF_A_LEASE: Final[dict[str, Callable[[_Worker, _Lease], Sequence[Message]]]] = {
    "RequeueJob": lambda _, lease: [operator_service_pb2.RequeueJobRequest(job_id=lease.job_id)],
    "ReportProgress": lambda worker, lease: [
        worker_service_pb2.ReportProgressRequest(
            worker=worker.identity,
            reports=[
                worker_service_pb2.ProgressReport(
                    lease=ref(lease), fraction=0.5, remaining=Duration(seconds=3)
                )
            ],
        )
    ],
    "UploadArtifact": lambda _, lease: [
        worker_service_pb2.UploadArtifactRequest(header=artifact_header(lease, CONTENT)),
        worker_service_pb2.UploadArtifactRequest(chunk=CONTENT),
    ],
    "UploadArtifacts": lambda worker, lease: [
        worker_service_pb2.UploadArtifactsRequest(
            files=[artifact_file(lease, CONTENT)], completion=worker.completion(lease)
        )
    ],
    "CompleteJob": lambda worker, lease: [
        worker_service_pb2.CompleteJobRequest(worker=worker.identity, lease=ref(lease))
    ],
    "FailJob": lambda worker, lease: [
        worker_service_pb2.FailJobRequest(
            worker=worker.identity,
            lease=ref(lease),
            error=job_error_pb2.JobError(
                code=job_error_pb2.ERROR_CODE_NODE_FAILED,
                node_input_errors=[job_error_pb2.NodeInputError(node_id="1")],
            ),
        )
    ],
    "ReleaseJob": lambda worker, lease: [
        worker_service_pb2.ReleaseJobRequest(
            worker=worker.identity,
            lease=ref(lease),
            reason=worker_service_pb2.RELEASE_REASON_DRAINING,
        )
    ],
}
