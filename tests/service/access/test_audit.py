"""The audit log: a line for each call that changes something, and no word that somebody wrote."""

from typing import Any

import grpc
import structlog
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from job_service.jobs.principal import Role
from tests.jobs_protocol import ProtocolClient, a_job, refused
from tests.operator_protocol import ProtocolOperator
from tests.service.access.callers import ALICE
from tests.service.access.conftest import Connect, MakeToken
from tests.service.test_templates import Templates, a_template
from tests.worker_protocol import ProtocolWorker, artifact_file

PROMPT = "a-prompt-nobody-should-log"


def _lines(log: list[Any]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key not in ("event", "log_level")}
        for line in log
        if line["event"] == "audit"
    ]


async def test_the_life_of_a_job_is_a_line_for_each_step(
    make_token: MakeToken, connect: Connect, worker: ProtocolWorker
) -> None:
    gateway = await make_token(Role.GATEWAY, name="web")
    client = ProtocolClient(connect(gateway, ALICE))
    operator = ProtocolOperator(connect(await make_token(Role.ADMIN, name="on-call")))
    with structlog.testing.capture_logs() as log:
        job = await client.create(prompt=PROMPT)
        await client.get(job.id)
        assert not await worker.lease(wait=0, free_slots=0)
        lease = await worker.lease_one()
        await worker.beat(lease)
        await worker.progress(lease)
        picture = await worker.upload(lease, b"picture")
        await worker.complete(lease, picture)
        await client.delete(job.id)
        await operator.drain("box-1")
    who = {"subject": "web#2", "role": "gateway", "on_behalf_of": str(ALICE)}
    box = {"subject": "worker#1", "role": "worker"}
    assert _lines(log) == [
        {"method": "CreateJob", **who, "job_id": job.id, "owner": str(ALICE), "code": "OK"},
        {"method": "LeaseJobs", **box, "worker": "box-1", "job_id": job.id, "code": "OK"},
        {
            "method": "UploadArtifact",
            **box,
            "artifact_id": picture.id,
            "job_id": job.id,
            "code": "OK",
        },
        {
            "method": "CompleteJob",
            **box,
            "worker": "box-1",
            "job_id": job.id,
            "status": "JOB_STATUS_COMPLETED",
            "code": "OK",
        },
        {"method": "DeleteJob", **who, "job_id": job.id, "deleted": True, "code": "OK"},
        {
            "method": "DrainWorker",
            "subject": "on-call#3",
            "role": "admin",
            "worker": "box-1",
            "code": "OK",
        },
    ]
    assert PROMPT not in str(log)
    assert gateway not in str(log)


async def test_files_that_complete_their_job_are_a_line_with_both(
    make_token: MakeToken, connect: Connect, worker: ProtocolWorker
) -> None:
    client = ProtocolClient(connect(await make_token(Role.GATEWAY, name="web"), ALICE))
    job = await client.create()
    lease = await worker.lease_one()
    with structlog.testing.capture_logs() as log:
        answer = await worker.complete_with(lease, [artifact_file(lease, b"picture")])
    assert _lines(log) == [
        {
            "method": "UploadArtifacts",
            "subject": "worker#1",
            "role": "worker",
            "worker": "box-1",
            "job_id": job.id,
            "artifact_id": answer.artifacts[0].id,
            "status": "JOB_STATUS_COMPLETED",
            "code": "OK",
        }
    ]


async def test_a_refused_call_is_a_line_that_says_why(
    channel: grpc.aio.Channel, alice: ProtocolClient
) -> None:
    with structlog.testing.capture_logs() as log:
        await refused(alice.stub.CancelJob(pb.CancelJobRequest(id=77)))
        await refused(alice.stub.CreateJob(pb.CreateJobRequest(job=a_job(width=1))))
        await refused(ProtocolClient(channel).cancel(77))
        await refused(ProtocolOperator(channel).fail_now(77))
    who = {"subject": "client#1", "role": "client"}
    assert _lines(log) == [
        {
            "method": "CancelJob",
            **who,
            "job_id": 77,
            "code": "NOT_FOUND",
            "reason": "JOB_NOT_FOUND",
        },
        {"method": "CreateJob", **who, "code": "INVALID_ARGUMENT", "reason": "INVALID_FIELDS"},
        {"method": "CancelJob", "code": "UNAUTHENTICATED", "reason": "UNAUTHENTICATED"},
        {"method": "FailJobNow", "code": "UNAUTHENTICATED", "reason": "UNAUTHENTICATED"},
    ]


async def test_a_line_is_bounded_and_on_one_line(alice: ProtocolClient) -> None:
    many = [pb.CreateJobRequest(job=a_job(prompt=PROMPT)) for _ in range(30)]
    with structlog.testing.capture_logs() as log:
        await alice.stub.BatchCreateJobs(pb.BatchCreateJobsRequest(requests=many))
        await refused(
            alice.stub.BatchCancelJobs(
                pb.BatchCancelJobsRequest(
                    filter=job_pb2.JobFilter(user_id=f"x\nlevel=error\x1b[2J{'y' * 10_000}")
                )
            )
        )
        await refused(Templates(alice).create(a_template("a\nb", description=PROMPT)))
    batch, cancelled, template = _lines(log)
    assert len(batch["job_id"]) == 20
    assert batch["job_id_count"] == 30
    assert batch["owner"] == str(ALICE)
    assert template["template"] == r"'a\nb'"
    for line in (batch, cancelled, template):
        assert len(str(line)) < 1000
        assert "\n" not in "".join(map(str, line.values()))
        assert "\x1b" not in "".join(map(str, line.values()))
    assert PROMPT not in str(_lines(log))
