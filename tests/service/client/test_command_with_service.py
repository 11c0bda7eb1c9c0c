"""genjobs and the real service."""

import json
from pathlib import Path

from generation_jobs.v1.job_error_pb2 import ErrorCode
from generation_jobs.v1.job_pb2 import GenerationJob

from job_service.client import JobServiceClient
from tests.service.client.hand_worker import CHECKPOINT, HandWorker
from tests.unit.client.command import genjobs

PICTURES = (b"first picture", b"second picture")
SUBMIT = ("submit", "--prompt", "a lighthouse", "--checkpoint", CHECKPOINT)


async def test_submit_wait_output(service: str, worker: HandWorker, tmp_path: Path) -> None:
    making = worker.making(*PICTURES)
    outcome = await genjobs(
        service, *SUBMIT, "--batch", "2", "--seed", "42", "-o", "made", "--thumbnails", cwd=tmp_path
    )
    lease = await making

    assert (outcome.code, outcome.stderr) == (0, "")
    lines = outcome.stdout.splitlines()
    assert lines[0] == f"Job {lease.job_id} is stored, seed 42."
    assert f"Job {lease.job_id} completed in" in outcome.stdout
    assert lines[-1].startswith("Saved made/")
    assert {path.name: path.read_bytes() for path in (tmp_path / "made").glob("*")} == {
        f"{lease.job_id}-0-picture.png": PICTURES[0],
        f"{lease.job_id}-1-picture.png": PICTURES[1],
        f"{lease.job_id}-0-picture-150px.webp": PICTURES[0][:10],
        f"{lease.job_id}-1-picture-150px.webp": PICTURES[1][:10],
    }


async def test_a_job_that_fails(service: str, worker: HandWorker, tmp_path: Path) -> None:
    submitted = await genjobs(service, *SUBMIT, "--json", cwd=tmp_path)
    job_id = json.loads(submitted.stdout)["id"]
    await worker.fail(
        await worker.lease_one(),
        ErrorCode.ERROR_CODE_MODEL_NOT_FOUND,
        message="There is no such model.",
    )

    watched = await genjobs(service, "watch", job_id, cwd=tmp_path)
    shown = await genjobs(service, "get", job_id, cwd=tmp_path)
    downloaded = await genjobs(service, "download", job_id, cwd=tmp_path)

    assert watched.code == 1
    assert "There is no such model. (model_not_found)" in watched.stdout
    assert shown.code == 0
    assert "There is no such model." in shown.stdout
    assert "hand/gpu" in shown.stdout
    assert downloaded.code == 1


async def test_get_list_cancel(service: str, jobs: JobServiceClient, tmp_path: Path) -> None:
    first = await jobs.create_job(GenerationJob(prompt="one", checkpoint_model=CHECKPOINT))
    second = await jobs.create_job(GenerationJob(prompt="two", checkpoint_model=CHECKPOINT))

    cancelled = await genjobs(service, "cancel", str(first.id), "--reason", "enough", cwd=tmp_path)
    again = await genjobs(service, "cancel", str(first.id), cwd=tmp_path)
    pending = await genjobs(service, "list", "--status", "pending", "--json", cwd=tmp_path)
    table = await genjobs(service, "list", cwd=tmp_path)
    shown = await genjobs(service, "get", str(second.id), cwd=tmp_path)

    assert (cancelled.code, cancelled.stdout) == (0, f"Job {first.id} is cancelled.\n")
    assert again.code == 0
    assert [json.loads(line)["id"] for line in pending.stdout.splitlines()] == [str(second.id)]
    rows = [line.split()[:2] for line in table.stdout.splitlines() if line.strip()][2:]
    assert rows == [[str(second.id), "pending"], [str(first.id), "cancelled"]]
    assert "no connected worker offers its checkpoint" in shown.stdout


async def test_a_refusal(service: str, tmp_path: Path) -> None:
    outcome = await genjobs(service, "submit", "-p", " ", "--width", "63", cwd=tmp_path)
    assert (outcome.code, outcome.stdout) == (4, "")
    complaints = [line.strip().removeprefix("job.") for line in outcome.stderr.splitlines()]
    for field in ("prompt: ", "width: ", "checkpoint_model: "):
        assert any(line.startswith(field) for line in complaints), outcome.stderr


async def test_a_job_that_is_not_there(service: str, tmp_path: Path) -> None:
    for command in ("get", "watch", "cancel", "download"):
        outcome = await genjobs(service, command, "999999", cwd=tmp_path)
        assert (outcome.code, outcome.stdout) == (4, ""), command
        assert "JOB_NOT_FOUND" in outcome.stderr
