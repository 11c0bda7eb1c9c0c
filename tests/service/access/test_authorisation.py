"""Every RPC, for every role, with one's own things and with somebody else's.

The cells are generated from the table of permissions and the contract: an RPC without a row, or
without a request here, fails.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from uuid import uuid4

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import (
    job_error_pb2,
    job_pb2,
    model_service_pb2,
    operator_service_pb2,
    worker_service_pb2,
)
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from job_service.api.audit import AUDITED
from job_service.api.permissions import PERMISSIONS
from job_service.jobs.principal import Role
from tests.every_method import METHODS
from tests.inputs_protocol import picture
from tests.jobs_protocol import ProtocolClient, a_job
from tests.service.access.callers import ALICE, BOB, Answer, Caller
from tests.service.access.conftest import MakeToken
from tests.service.test_templates import a_template
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, artifact_header

CANARY = "alices-secret"


class Names(Enum):
    """What a request is about."""

    NOTHING = "nothing of anybody's in particular"
    A_USER = "Alice herself"
    A_THING = "something that is Alice's"
    A_TEMPLATE = "a template of hers, by its name"


@dataclass(frozen=True, slots=True)
class Things:
    """What is Alice's: the ids of a job, of an artifact and of an input, a template's name."""

    job: int
    artifact: int
    input: int
    template: str


Build = Callable[[Things], list[Message]]


def _job(things: Things) -> job_pb2.GenerationJob:
    return job_pb2.GenerationJob(id=things.job, negative_prompt="changed")


def _alices() -> job_pb2.GenerationJob:
    return a_job(user_id=str(ALICE), prompt=CANARY)


IDENTITY = worker_service_pb2.WorkerIdentity(name="box-1", instance_id=str(uuid4()))


def _lease(things: Things) -> worker_service_pb2.LeaseRef:
    """Nobody's lease: what a worker may not do without one it is told to have lost."""
    return worker_service_pb2.LeaseRef(job_id=things.job, lease_token=str(uuid4()))


def _file(things: Things) -> worker_service_pb2.ArtifactHeader:
    lease = worker_service_pb2.Lease(job_id=things.job, lease_token=str(uuid4()))
    return artifact_header(lease, b"content")


_DISPATCH = operator_service_pb2.DispatchSelector(backend_label="elsewhere")
_worker, _operator, _models = worker_service_pb2, operator_service_pb2, model_service_pb2

REQUESTS: dict[str, tuple[Names, Build]] = {
    "CreateJob": (Names.A_USER, lambda _: [pb.CreateJobRequest(job=_alices())]),
    "BatchCreateJobs": (
        Names.A_USER,
        lambda _: [pb.BatchCreateJobsRequest(requests=[pb.CreateJobRequest(job=_alices())])],
    ),
    "GetJob": (Names.A_THING, lambda a: [pb.GetJobRequest(id=a.job)]),
    "ListJobs": (Names.NOTHING, lambda _: [pb.ListJobsRequest(include_total=True)]),
    "UpdateJob": (
        Names.A_THING,
        lambda a: [
            pb.UpdateJobRequest(job=_job(a), update_mask=FieldMask(paths=["negative_prompt"]))
        ],
    ),
    "DeleteJob": (Names.A_THING, lambda a: [pb.DeleteJobRequest(id=a.job)]),
    "CancelJob": (Names.A_THING, lambda a: [pb.CancelJobRequest(id=a.job)]),
    "BatchCancelJobs": (
        Names.NOTHING,
        lambda a: [pb.BatchCancelJobsRequest(filter=job_pb2.JobFilter(ids=[a.job]))],
    ),
    "RetryJob": (Names.A_THING, lambda a: [pb.RetryJobRequest(id=a.job)]),
    "SetJobContent": (Names.A_THING, lambda a: [pb.SetJobContentRequest(id=a.job, content_id=7)]),
    "WatchJob": (Names.A_THING, lambda a: [pb.WatchJobRequest(id=a.job, include_previews=True)]),
    "WatchJobs": (Names.NOTHING, lambda _: [pb.WatchJobsRequest()]),
    "GetJobStats": (
        Names.NOTHING,
        lambda _: [pb.GetJobStatsRequest(group_by=[pb.STATS_DIMENSION_USER])],
    ),
    "GetQueueStats": (Names.NOTHING, lambda _: [pb.GetQueueStatsRequest()]),
    "ReadArtifact": (Names.A_THING, lambda a: [pb.ReadArtifactRequest(artifact_id=a.artifact)]),
    "GetArtifactUrl": (Names.A_THING, lambda a: [pb.GetArtifactUrlRequest(artifact_id=a.artifact)]),
    "UploadInput": (
        Names.A_USER,
        lambda _: [
            pb.UploadInputRequest(header=pb.InputHeader(filename="p.png", user_id=str(ALICE))),
            pb.UploadInputRequest(chunk=picture()),
        ],
    ),
    "CreateTemplate": (
        Names.NOTHING,
        lambda _: [pb.CreateTemplateRequest(template=a_template(f"new-{uuid4()}"))],
    ),
    "GetTemplate": (Names.A_TEMPLATE, lambda a: [pb.GetTemplateRequest(name=a.template)]),
    "ListTemplates": (Names.NOTHING, lambda _: [pb.ListTemplatesRequest()]),
    "UpdateTemplate": (
        Names.A_TEMPLATE,
        lambda a: [pb.UpdateTemplateRequest(template=a_template(a.template, description="new"))],
    ),
    "DeleteTemplate": (Names.A_TEMPLATE, lambda a: [pb.DeleteTemplateRequest(name=a.template)]),
    "ListModels": (Names.NOTHING, lambda _: [_models.ListModelsRequest()]),
    "RefreshModels": (Names.NOTHING, lambda _: [_models.RefreshModelsRequest()]),
    "LeaseJobs": (
        Names.NOTHING,
        lambda _: [
            _worker.LeaseJobsRequest(worker=IDENTITY, max_jobs=1, request_id=str(uuid4())),
        ],
    ),
    "Heartbeat": (Names.NOTHING, lambda _: [_worker.HeartbeatRequest(worker=IDENTITY)]),
    "ReportProgress": (
        Names.NOTHING,
        lambda a: [
            _worker.ReportProgressRequest(
                worker=IDENTITY, reports=[_worker.ProgressReport(lease=_lease(a))]
            )
        ],
    ),
    "UploadArtifact": (
        Names.NOTHING,
        lambda a: [
            _worker.UploadArtifactRequest(header=_file(a)),
            _worker.UploadArtifactRequest(chunk=b"content"),
        ],
    ),
    "UploadArtifacts": (
        Names.NOTHING,
        lambda a: [
            _worker.UploadArtifactsRequest(
                files=[_worker.ArtifactFile(header=_file(a), content=b"content")]
            )
        ],
    ),
    "ReadInput": (
        Names.NOTHING,
        lambda a: [_worker.ReadInputRequest(lease=_lease(a), input_id=a.input)],
    ),
    "CompleteJob": (
        Names.NOTHING,
        lambda a: [_worker.CompleteJobRequest(worker=IDENTITY, lease=_lease(a))],
    ),
    "FailJob": (
        Names.NOTHING,
        lambda a: [
            _worker.FailJobRequest(
                worker=IDENTITY,
                lease=_lease(a),
                error=job_error_pb2.JobError(code=job_error_pb2.ERROR_CODE_INTERNAL),
            )
        ],
    ),
    "ReleaseJob": (
        Names.NOTHING,
        lambda a: [
            _worker.ReleaseJobRequest(
                worker=IDENTITY, lease=_lease(a), reason=_worker.RELEASE_REASON_DRAINING
            )
        ],
    ),
    "ReportCatalogue": (
        Names.NOTHING,
        lambda _: [
            _worker.ReportCatalogueRequest(
                worker=IDENTITY,
                catalogues=[_worker.BackendCatalogue(backend="gpu0", digest="1")],
            )
        ],
    ),
    "ListWorkers": (Names.NOTHING, lambda _: [_operator.ListWorkersRequest()]),
    "GetWorker": (Names.NOTHING, lambda _: [_operator.GetWorkerRequest(name="box-1")]),
    "DrainWorker": (Names.NOTHING, lambda _: [_operator.DrainWorkerRequest(name="box-1")]),
    "ResumeWorker": (Names.NOTHING, lambda _: [_operator.ResumeWorkerRequest(name="box-1")]),
    "ListAttempts": (Names.NOTHING, lambda a: [_operator.ListAttemptsRequest(job_id=a.job)]),
    "ExplainJob": (Names.NOTHING, lambda a: [_operator.ExplainJobRequest(job_id=a.job)]),
    "RequeueJob": (Names.NOTHING, lambda a: [_operator.RequeueJobRequest(job_id=a.job)]),
    "FailJobNow": (
        Names.NOTHING,
        lambda a: [_operator.FailJobNowRequest(job_id=a.job, reason="no")],
    ),
    "PauseDispatch": (
        Names.NOTHING,
        lambda _: [_operator.PauseDispatchRequest(selector=_DISPATCH)],
    ),
    "ResumeDispatch": (
        Names.NOTHING,
        lambda _: [_operator.ResumeDispatchRequest(selector=_DISPATCH)],
    ),
}

#: What changes nothing, and so needs no line in the audit log.
READS = {
    "GetJob", "ListJobs", "WatchJob", "WatchJobs", "GetJobStats", "GetQueueStats", "ReadArtifact",
    "GetArtifactUrl", "GetTemplate", "ListTemplates", "ListModels", "ReadInput", "ListWorkers",
    "GetWorker", "ListAttempts", "ExplainJob", "Heartbeat", "ReportProgress",
}  # fmt: skip

#: What a caller that is let in, and finds what it names, may be told.
LET_IN = {
    grpc.StatusCode.OK,
    grpc.StatusCode.FAILED_PRECONDITION,  # the thing's state does not allow it
    grpc.StatusCode.ABORTED,  # nobody's lease
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of caller.

    ``role``: None without a token. ``own``: whether Alice's things are its own to see; ``alone``:
    because everybody's are. ``for_another``: an admin that acts for another user.
    """

    name: str
    role: Role | None
    own: bool
    alone: bool = False
    for_another: bool = False


KINDS = {
    "nobody": Kind("nobody", None, own=False),
    "bob": Kind("client of another user", Role.CLIENT, own=False),
    "for bob": Kind("gateway for another user", Role.GATEWAY, own=False),
    "admin for bob": Kind("admin for another user", Role.ADMIN, own=False, for_another=True),
    "gateway": Kind("gateway alone", Role.GATEWAY, own=True, alone=True),
    "worker": Kind("worker", Role.WORKER, own=True),
    "alice": Kind("client", Role.CLIENT, own=True),
    "for alice": Kind("gateway for the user", Role.GATEWAY, own=True),
    "admin": Kind("admin", Role.ADMIN, own=True, alone=True),
}


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _complaint(method: MethodDescriptor, kind: Kind, answer: Answer) -> str:
    """What is wrong with an answer; empty: nothing."""
    said = (answer.status, answer.reason)
    permission = PERMISSIONS[_path(method)]
    names, _ = REQUESTS[method.name]
    if kind.role is None:
        expected = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    elif kind.role not in permission.roles | {Role.ADMIN} or (
        kind.for_another and Role.CLIENT not in permission.roles
    ):
        expected = (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")
    elif kind.role is Role.GATEWAY and kind.alone and not permission.gateway_alone:
        expected = (grpc.StatusCode.PERMISSION_DENIED, "USER_REQUIRED")
    elif kind.alone and names is Names.A_TEMPLATE:  # by name: of everybody's, there is none
        expected = (grpc.StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    elif kind.own or names is Names.NOTHING:
        return "" if answer.status in LET_IN else f"{said}: {answer.message}"
    elif names is Names.A_USER:
        expected = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    else:
        expected = (grpc.StatusCode.NOT_FOUND, answer.reason)
    return "" if said == expected else f"{said}: {answer.message}; expected {expected}"


def _leaks(kind: Kind, answer: Answer) -> bool:
    told = [answer.message.encode(), *(one.SerializeToString() for one in answer.responses)]
    return not kind.own and any(CANARY.encode() in one for one in told)


async def _alices_rows(sql: Sql) -> list[tuple[object, ...]]:
    rows = await sql.execute(
        """
        SELECT row_to_json(job)::text FROM generation_jobs AS job WHERE user_id = %(alice)s
        UNION ALL SELECT row_to_json(i)::text FROM job_inputs AS i WHERE user_id = %(alice)s
        UNION ALL SELECT row_to_json(t)::text FROM workflow_templates AS t WHERE owner = %(alice)s
        UNION ALL SELECT row_to_json(a)::text FROM job_artifacts AS a
            WHERE job_id IN (SELECT id FROM generation_jobs WHERE user_id = %(alice)s)
        ORDER BY 1
        """,
        {"alice": ALICE},
    )
    return await rows.fetchall()


async def _things(
    alice: ProtocolClient, worker: ProtocolWorker, caller: Caller
) -> Callable[[], Awaitable[Things]]:
    done = await alice.create(prompt=CANARY)
    lease = await worker.lease_one()
    artifact = await worker.upload(lease, b"picture", filename=f"{CANARY}.png")
    await worker.complete(lease, artifact)
    stored = await caller.call(
        _method("UploadInput"), *REQUESTS["UploadInput"][1](Things(done.id, 0, 0, ""))
    )

    async def fresh() -> Things:
        """A job and a template that no call has changed yet."""
        job = await alice.create(prompt=CANARY)
        template = f"t-{uuid4()}"
        request = pb.CreateTemplateRequest(template=a_template(template, description=CANARY))
        await alice.stub.CreateTemplate(request, timeout=20)
        return Things(job.id, artifact.id, stored.responses[0].input.id, template)

    return fresh


def _method(name: str) -> MethodDescriptor:
    found: MethodDescriptor = next(method for method in METHODS if method.name == name)
    return found


def test_every_rpc_has_a_row_and_a_request_and_is_audited_or_reads() -> None:
    assert set(PERMISSIONS) == set(map(_path, METHODS))
    assert set(REQUESTS) == {method.name for method in METHODS}
    assert set(AUDITED) == {_path(method) for method in METHODS if method.name not in READS}


async def test_every_cell(
    channel: grpc.aio.Channel,
    make_token: MakeToken,
    alice: ProtocolClient,
    worker: ProtocolWorker,
    sql: Sql,
    subtests: pytest.Subtests,
) -> None:
    gateway, admin = await make_token(Role.GATEWAY), await make_token(Role.ADMIN)
    callers = {
        "nobody": Caller(channel, None),
        "bob": Caller(channel, await make_token(Role.CLIENT, BOB)),
        "for bob": Caller(channel, gateway, BOB),
        "admin for bob": Caller(channel, admin, BOB),
        "gateway": Caller(channel, gateway),
        "worker": Caller(channel, await make_token(Role.WORKER)),
        "alice": Caller(channel, await make_token(Role.CLIENT, ALICE)),
        "for alice": Caller(channel, gateway, ALICE),
        "admin": Caller(channel, admin),
    }
    fresh = await _things(alice, worker, callers["alice"])
    for method in METHODS:
        _, build = REQUESTS[method.name]
        before = None
        for name, kind in KINDS.items():
            if before is None or kind.own:
                things = await fresh()
                before = await _alices_rows(sql)
            answer = await callers[name].call(method, *build(things))
            with subtests.test(method.name, caller=kind.name):
                assert not _complaint(method, kind, answer)
                assert not _leaks(kind, answer)
                if not kind.own:
                    assert await _alices_rows(sql) == before
