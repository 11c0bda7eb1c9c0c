"""genjobs for operators and the real service."""

import json
from pathlib import Path

from generation_jobs.v1.job_error_pb2 import ErrorCode
from generation_jobs.v1.job_pb2 import GenerationJob, JobStatus

from job_service.client import JobServiceClient
from tests.service.client.hand_worker import CHECKPOINT, HandWorker
from tests.unit.client.command import genjobs


async def a_job(jobs: JobServiceClient) -> int:
    job = GenerationJob(prompt="a lighthouse", checkpoint_model=CHECKPOINT)
    return (await jobs.create_job(job)).id


async def test_workers_drain_and_resume(
    service: str, jobs: JobServiceClient, worker: HandWorker, tmp_path: Path
) -> None:
    job_id = await a_job(jobs)
    lease = await worker.lease_one()

    table = await genjobs(service, "workers", cwd=tmp_path)
    drained = await genjobs(service, "drain", "hand", cwd=tmp_path)
    listed = await genjobs(service, "workers", "--json", cwd=tmp_path)
    resumed = await genjobs(service, "resume", "hand", cwd=tmp_path)
    unknown = await genjobs(service, "drain", "nobody", cwd=tmp_path)

    row = [line for line in table.stdout.splitlines() if line.strip()][-1].split()
    assert row[:2] == ["hand", "live"]
    assert row[-3:] == ["1/1", "gpu", CHECKPOINT]
    assert "It finishes the 1 job it has." in drained.stdout
    told = json.loads(listed.stdout)
    assert (told["draining"], told["job_ids"]) == (True, [str(job_id)])
    assert resumed.stdout == "Worker hand takes jobs again.\n"
    assert (unknown.code, unknown.stdout) == (4, "")
    assert "WORKER_NOT_FOUND" in unknown.stderr
    await worker.complete(lease)


async def test_from_a_job_that_waits_to_one_that_is_failed(
    service: str, jobs: JobServiceClient, worker: HandWorker, tmp_path: Path
) -> None:
    async def told(*arguments: str) -> str:
        outcome = await genjobs(service, *arguments, cwd=tmp_path)
        assert (outcome.code, outcome.stderr) == (0, ""), outcome
        return outcome.stdout

    job_id = await a_job(jobs)
    name = str(job_id)
    paused = await told("pause", "--checkpoint", CHECKPOINT, "--reason", "a new disk")
    assert "1 pending job affected" in paused
    assert "paused by an operator" in await told("explain", name)
    assert "1 pending job can be" in await told("unpause", "--checkpoint", CHECKPOINT)

    await worker.lease_one()
    assert "Backend      hand/gpu" in await told("explain", name)
    assert "1 with 1 slot" in await told("queue")
    assert await told("requeue", name) == (
        f"Job {name} is pending again. 'genjobs watch {name}' follows it.\n"
    )
    await worker.fail(
        await worker.lease_one(), ErrorCode.ERROR_CODE_INVALID_WORKFLOW, message="No such node."
    )
    attempts = await told("attempts", name)
    assert "released" in attempts
    assert "No such node. (invalid_workflow)" in attempts
    assert json.loads(await told("retry", name, "--json"))["status"] == "JOB_STATUS_PENDING"
    assert await told("fail", name, "--reason", "enough") == f"Job {name} has failed: enough\n"
    assert (await jobs.get_job(job_id)).status == JobStatus.JOB_STATUS_FAILED


async def test_a_job_that_is_not_there(service: str, tmp_path: Path) -> None:
    for command in (
        *(["explain"], ["attempts"], ["requeue"], ["retry"]),
        ["fail", "--reason", "enough"],
    ):
        outcome = await genjobs(service, *command, "999999", cwd=tmp_path)
        assert (outcome.code, outcome.stdout) == (4, ""), command
        assert "JOB_NOT_FOUND" in outcome.stderr
