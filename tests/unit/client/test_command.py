"""genjobs: what it asks for, what it prints, and the exit codes scripts depend on."""

import asyncio
import json
import signal
from pathlib import Path

import grpc
import pytest
from generation_jobs.v1.artifact_pb2 import ArtifactRole, InputAsset
from generation_jobs.v1.generation_job_service_pb2 import (
    CancelJobRequest,
    CancelJobResponse,
    CreateJobRequest,
    CreateJobResponse,
    GetJobResponse,
    ListJobsRequest,
    ListJobsResponse,
    UploadInputResponse,
    WatchJobResponse,
)
from generation_jobs.v1.job_error_pb2 import ErrorCode, JobError
from generation_jobs.v1.job_pb2 import (
    GenerationJob,
    JobFilter,
    JobStatus,
    JobType,
    JobView,
    Lora,
    Sampler,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.unit.client.command import genjobs, genjobs_on_terminal
from tests.unit.client.messages import (
    a_job,
    completed,
    failure,
    invalid,
    pending,
    picture,
    running,
    transfer,
    unavailable,
)
from tests.unit.client.scripted_service import Hold, ScriptedService

_SUBMITTED = CreateJobResponse(job=a_job(JobStatus.JOB_STATUS_PENDING, sampler=Sampler(seed=42)))


async def test_submit_uploads_each_file_once_and_binds_it(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    (tmp_path / "a=b.png").write_bytes(b"picture")
    scripted.script("UploadInput", UploadInputResponse(input=InputAsset(id=12)))
    scripted.script("CreateJob", _SUBMITTED)
    outcome = await genjobs(
        scripted.address,
        *("submit", "-p", "a lighthouse", "-c", "sdxl", "--input", "image=a=b.png"),
        *("--input", "mask=id:7", "--input", "control=a=b.png"),
        cwd=tmp_path,
    )
    assert (outcome.code, outcome.stderr) == (0, "")
    (created,) = scripted.requests["CreateJob"]
    assert isinstance(created, CreateJobRequest)
    assert [(one.name, one.input_id) for one in created.job.inputs] == [
        ("image", 12), ("mask", 7), ("control", 12),
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["image", "=a.png", "image=", "image=id:x", "image=nothing.png"])
async def test_submit_refuses_inputs_it_cannot_read(
    scripted: ScriptedService, tmp_path: Path, value: str
) -> None:
    submit = ("submit", "-p", "a lighthouse", "-c", "sdxl")
    outcome = await genjobs(scripted.address, *submit, "--input", value, cwd=tmp_path)
    assert (outcome.code, outcome.stdout) == (2, "")


async def test_submit_sends_every_option(scripted: ScriptedService, tmp_path: Path) -> None:
    scripted.script("CreateJob", _SUBMITTED)
    graph = '{"3": {"b": 9007199254740993, "a": 1e0}}\r\n'
    (tmp_path / "graph.json").write_bytes(graph.encode())

    outcome = await genjobs(
        scripted.address,
        *("submit", "--prompt", "a lighthouse", "--negative", "fog", "--checkpoint", "sdxl"),
        *("--lora", "one", "--lora", "two:0.5:-1", "--width", "512", "--height", "768"),
        *("--batch", "2", "--seed", "-1", "--steps", "20", "--cfg", "7.5", "--sampler", "dpm"),
        *("--scheduler", "karras", "--denoise", "0.5", "--priority", "-5", "--label", "a=1"),
        *("--label", "b=x=y", "--workflow", "graph.json", "--request-id", "mine"),
        *("--backend", "kerniegen", "--user", "u", "--params", "{}", "--type", "video"),
        *("--scheduled-at", "2030-01-01T00:00Z", "--expires-at", "2030-01-02T00:00Z"),
        *("--max-attempts", "5", "--attempt-timeout", "1h30m"),
        cwd=tmp_path,
    )

    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout == "Job 7 is stored, seed 42. 'genjobs watch 7' follows it.\n"
    assert scripted.requests["CreateJob"] == [
        CreateJobRequest(
            job=GenerationJob(
                prompt="a lighthouse",
                negative_prompt="fog",
                checkpoint_model="sdxl",
                lora_models=[
                    Lora(name="one"),
                    Lora(name="two", strength_model=0.5, strength_clip=-1),
                ],
                width=512,
                height=768,
                batch_size=2,
                sampler=Sampler(
                    seed=-1,
                    steps=20,
                    cfg=7.5,
                    sampler_name="dpm",
                    scheduler="karras",
                    denoise=0.5,
                ),
                priority=-5,
                labels={"a": "1", "b": "x=y"},
                workflow_json=graph,
                backend="kerniegen",
                user_id="u",
                params_json="{}",
                job_type=JobType.JOB_TYPE_VIDEO,
                scheduled_at=Timestamp(seconds=1_893_456_000),
                expires_at=Timestamp(seconds=1_893_542_400),
                max_attempts=5,
                attempt_timeout=Duration(seconds=5_400),
            ),
            request_id="mine",
        )
    ]


async def test_submit_leaves_out_what_is_not_given(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.script("CreateJob", _SUBMITTED)
    outcome = await genjobs(scripted.address, "submit", "-p", "x", "--json", cwd=tmp_path)

    assert outcome.code == 0
    assert json.loads(outcome.stdout) == {
        "id": "7",
        "prompt": "a lighthouse",
        "status": "JOB_STATUS_PENDING",
        "sampler": {"seed": "42"},
    }
    request = scripted.requests["CreateJob"][0]
    assert isinstance(request, CreateJobRequest)
    assert request.job == GenerationJob(prompt="x", sampler=Sampler())
    assert request.request_id


async def test_submit_wait_output_follows_and_saves(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.script("CreateJob", _SUBMITTED)
    scripted.script("WatchJob", pending(), running(5), unavailable())
    scripted.script("WatchJob", completed(b"first", b"second"))
    for position, content in enumerate((b"first", b"second")):
        scripted.script("ReadArtifact", *transfer(picture(content, position), content))

    outcome = await genjobs(
        *(scripted.address, "submit", "-p", "x", "--wait", "--output", "made/here"), cwd=tmp_path
    )

    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.splitlines() == [
        "Job 7 is stored, seed 42.",
        "Job 7: waiting",
        "Job 7: sampling, 50%, step 5/10",
        "Job 7: connection lost, trying again",
        "Job 7: completed, 100%",
        "Job 7 completed, 2 files",
        "Saved made/here/7-0-picture.png (5 bytes)",
        "Saved made/here/7-1-picture.png (6 bytes)",
    ]
    assert (tmp_path / "made/here/7-0-picture.png").read_bytes() == b"first"
    assert (tmp_path / "made/here/7-1-picture.png").read_bytes() == b"second"


async def test_submit_wait_json_keeps_stdout_for_json(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.script("CreateJob", _SUBMITTED)
    scripted.script("WatchJob", running(5), completed())
    outcome = await genjobs(
        *(scripted.address, "submit", "-p", "x", "--wait", "--json"), cwd=tmp_path
    )
    assert outcome.code == 0
    assert json.loads(outcome.stdout)["status"] == "JOB_STATUS_COMPLETED"
    assert "Job 7: sampling" in outcome.stderr


async def test_a_failed_job_says_why(scripted: ScriptedService, tmp_path: Path) -> None:
    error = JobError(
        code=ErrorCode.ERROR_CODE_OUT_OF_MEMORY,
        message="The GPU ran out of memory.",
        recovery_suggestions=["Make the picture smaller.", "Use fewer pictures per batch."],
        node_id="3",
        node_type="KSampler",
        attempts_exhausted=True,
    )
    failed = WatchJobResponse(job=a_job(JobStatus.JOB_STATUS_FAILED, error=error))
    scripted.script("WatchJob", failed)

    outcome = await genjobs(scripted.address, "watch", "7", cwd=tmp_path)

    assert outcome.code == 1
    assert outcome.stdout.splitlines() == [
        "Job 7: failed",
        "Job 7 failed",
        "  The GPU ran out of memory. (out_of_memory)",
        "  at node 3 KSampler",
        "  all attempts are used up",
        "  - Make the picture smaller.",
        "  - Use fewer pictures per batch.",
    ]


async def test_a_cancelled_job(scripted: ScriptedService, tmp_path: Path) -> None:
    job = a_job(JobStatus.JOB_STATUS_CANCELLED, cancel_reason="changed\nmy mind")
    scripted.script("WatchJob", WatchJobResponse(job=job))
    outcome = await genjobs(scripted.address, "watch", "7", cwd=tmp_path)
    assert outcome.code == 1
    assert outcome.stdout.splitlines()[-1] == "Job 7 cancelled: changed my mind"


async def test_watch_json_is_one_update_a_line(scripted: ScriptedService, tmp_path: Path) -> None:
    scripted.script("WatchJob", running(5), unavailable())
    scripted.script("WatchJob", completed(b"picture"))
    outcome = await genjobs(scripted.address, "watch", "7", "--json", cwd=tmp_path)
    statuses = [json.loads(line)["job"]["status"] for line in outcome.stdout.splitlines()]
    assert statuses == ["JOB_STATUS_RUNNING", "JOB_STATUS_COMPLETED"]
    assert (outcome.code, outcome.stderr) == (0, "connection lost, trying again\n")


async def test_watch_draws_a_bar_on_a_terminal(scripted: ScriptedService, tmp_path: Path) -> None:
    scripted.script("WatchJob", running(5), completed(b"picture"))
    async with genjobs_on_terminal(scripted.address, ["watch", "7"], tmp_path) as (process, text):
        screen = (await text.read()).decode()
        assert await process.wait() == 0
    assert "━" in screen
    assert "100%" in screen
    assert "\x1b[?25h" in screen  # the cursor is back
    assert "Job 7 \x1b[32mcompleted\x1b[0m, 1 file" in screen


async def test_ctrl_c_leaves_the_job_alone(scripted: ScriptedService, tmp_path: Path) -> None:
    scripted.script("WatchJob", running(5), Hold)
    async with genjobs_on_terminal(scripted.address, ["watch", "7"], tmp_path) as (process, text):
        screen = await text.readuntil(b"step 5/10")
        process.send_signal(signal.SIGINT)
        screen += await text.read()
        assert await process.wait() == 130
    assert b"Job 7 goes on. 'genjobs watch 7' follows it" in screen
    assert b"Traceback" not in screen
    await asyncio.wait_for(scripted.call_ended.wait(), 10)
    assert not scripted.requests["CancelJob"]


async def test_ctrl_c_while_submitting_tells_how_to_go_on(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.script("CreateJob", Hold)
    arguments = ["submit", "-p", "x", "--request-id", "mine"]
    async with genjobs_on_terminal(scripted.address, arguments, tmp_path) as (process, text):
        await asyncio.wait_for(scripted.call_begun.wait(), 30)
        process.send_signal(signal.SIGINT)
        screen = (await text.read()).decode()
        assert await process.wait() == 130
    assert "--request-id mine" in screen


async def test_list_asks_for_what_is_wanted(scripted: ScriptedService, tmp_path: Path) -> None:
    jobs = [
        a_job(JobStatus.JOB_STATUS_COMPLETED, width=832, height=1216, checkpoint_model="sdxl"),
        running(4, id=6, prompt="two\nlines", user_id="u").job,
    ]
    scripted.script("ListJobs", ListJobsResponse(jobs=jobs))

    outcome = await genjobs(
        scripted.address,
        *("list", "--user", "u", "--status", "completed", "--status", "RUNNING", "--limit", "5"),
        cwd=tmp_path,
    )

    assert (outcome.code, outcome.stderr) == (0, "")
    heading, _, first, second = [line for line in outcome.stdout.splitlines() if line.strip()]
    assert heading.split() == ["ID", "Status", "Created", "User", "Size", "Checkpoint", "Prompt"]
    assert first.split()[:2] == ["7", "completed"]
    assert {"832x1216", "sdxl"} <= set(first.split())
    assert second.split()[:3] == ["6", "running", "40%"]
    assert "two lines" in second
    statuses = [JobStatus.JOB_STATUS_COMPLETED, JobStatus.JOB_STATUS_RUNNING]
    request = scripted.requests["ListJobs"][0]
    assert isinstance(request, ListJobsRequest)
    assert request.filter == JobFilter(user_id="u", statuses=statuses)
    assert (request.page_size, request.view) == (5, JobView.JOB_VIEW_BASIC)


async def test_list_json_is_one_job_a_line(scripted: ScriptedService, tmp_path: Path) -> None:
    jobs = [GenerationJob(id=2, prompt="ein Leuchtturm, grün"), GenerationJob(id=1)]
    scripted.script("ListJobs", ListJobsResponse(jobs=jobs))
    outcome = await genjobs(scripted.address, "list", "--json", cwd=tmp_path)
    assert [json.loads(line) for line in outcome.stdout.splitlines()] == [
        {"id": "2", "prompt": "ein Leuchtturm, grün"},
        {"id": "1"},
    ]


async def test_json_survives_a_terminal_that_knows_only_ascii(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.script("GetJob", GetJobResponse(job=GenerationJob(id=2, prompt="grün 😀")))
    outcome = await genjobs(
        *(scripted.address, "get", "2", "--json"),
        cwd=tmp_path,
        PYTHONUTF8="0",
        PYTHONIOENCODING="ascii",
    )
    assert json.loads(outcome.stdout)["prompt"] == "grün 😀"


async def test_get_shows_everything(scripted: ScriptedService, tmp_path: Path) -> None:
    job = completed(b"picture").job
    job.MergeFrom(
        GenerationJob(
            lora_models=[Lora(name="detail", strength_model=0.6, strength_clip=0.6)],
            labels={"project": "coast"},
            sampler=Sampler(seed=42, steps=28, sampler_name="euler", scheduler="normal"),
            created_at=Timestamp(seconds=1_700_000_000),
            comfyui_backend="box-1/gpu0",
        )
    )
    job.attempts.add(
        attempt=1,
        comfyui_backend="box-1/gpu0",
        leased_at=Timestamp(seconds=1_700_000_001),
        ended_at=Timestamp(seconds=1_700_000_004),
    )
    scripted.script("GetJob", GetJobResponse(job=job))

    outcome = await genjobs(scripted.address, "get", "7", cwd=tmp_path)

    assert (outcome.code, outcome.stderr) == (0, "")
    expected = ["completed", "a lighthouse", "detail:0.6:0.6", "project=coast", "42", "box-1/gpu0"]
    expected += ["euler, normal, 28 steps", "d ago)", "picture.png", "7 bytes", "3.0 s"]
    assert [part for part in expected if part not in outcome.stdout] == []


async def test_cancel(scripted: ScriptedService, tmp_path: Path) -> None:
    scripted.script("CancelJob", CancelJobResponse(job=a_job(JobStatus.JOB_STATUS_CANCELLED)))
    scripted.script("CancelJob", CancelJobResponse(job=a_job(JobStatus.JOB_STATUS_RUNNING)))

    first = await genjobs(*(scripted.address, "cancel", "7", "--reason", "enough"), cwd=tmp_path)
    second = await genjobs(scripted.address, "cancel", "7", cwd=tmp_path)

    assert (first.code, first.stdout) == (0, "Job 7 is cancelled.\n")
    assert second.code == 0
    assert "has been told to stop" in second.stdout
    assert scripted.requests["CancelJob"] == [
        CancelJobRequest(id=7, reason="enough"),
        CancelJobRequest(id=7),
    ]


async def test_download_saves_outputs_and_on_request_thumbnails(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    job = completed(b"picture").job
    job.artifacts.append(
        picture(
            b"small",
            id=200,
            role=ArtifactRole.ARTIFACT_ROLE_THUMBNAIL,
            thumbnail_size=150,
            content_type="image/webp",
        )
    )
    for _ in range(2):
        scripted.script("GetJob", GetJobResponse(job=job))
        scripted.script("ReadArtifact", *transfer(picture(b"picture"), b"picture"))
    scripted.script("ReadArtifact", *transfer(picture(b"small"), b"small"))

    plain, all_of_it = tmp_path / "plain", tmp_path / "all"
    first = await genjobs(scripted.address, "download", "7", "-o", str(plain), cwd=tmp_path)
    second = await genjobs(
        *(scripted.address, "download", "7", "-o", str(all_of_it), "--thumbnails"), cwd=tmp_path
    )

    assert (first.code, second.code) == (0, 0)
    assert [path.name for path in sorted(plain.glob("*"))] == ["7-0-picture.png"]
    assert {path.name: path.read_bytes() for path in all_of_it.glob("*")} == {
        "7-0-picture.png": b"picture",
        "7-0-picture-150px.webp": b"small",
    }


async def test_download_of_nothing(scripted: ScriptedService, tmp_path: Path) -> None:
    scripted.script("GetJob", GetJobResponse(job=a_job(JobStatus.JOB_STATUS_RUNNING)))
    outcome = await genjobs(scripted.address, "download", "7", cwd=tmp_path)
    assert outcome.code == 1
    assert "Job 7 is running and has no files." in outcome.stderr


async def test_download_into_a_place_that_cannot_be(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    scripted.script("GetJob", GetJobResponse(job=completed(b"picture").job))
    outcome = await genjobs(scripted.address, "download", "7", "-o", "file/below", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.stderr == "error: file/below: Not a directory\n"


async def test_a_refusal_names_every_field(scripted: ScriptedService, tmp_path: Path) -> None:
    scripted.script("CreateJob", invalid(width="63 is below 64", prompt="is blank"))
    outcome = await genjobs(scripted.address, "submit", "-p", " ", cwd=tmp_path)
    assert (outcome.code, outcome.stdout) == (4, "")
    assert outcome.stderr.splitlines() == [
        "error: the job is wrong (INVALID_FIELDS)",
        "  width: 63 is below 64",
        "  prompt: is blank",
        "Correct what is named above and try again.",
    ]


async def test_nobody_there(tmp_path: Path) -> None:
    async with ScriptedService() as gone:
        address = gone.address
    outcome = await genjobs(*(address, "submit", "-p", "x", "--request-id", "mine"), cwd=tmp_path)
    assert (outcome.code, outcome.stdout) == (3, "")
    assert outcome.stderr.startswith(f"error: the service at {address} does not answer\n")
    assert "--request-id mine" in outcome.stderr


async def test_a_job_that_is_not_there(scripted: ScriptedService, tmp_path: Path) -> None:
    refusal = failure(grpc.StatusCode.NOT_FOUND, "there is no job 7", reason="JOB_NOT_FOUND")
    scripted.script("GetJob", refusal)
    outcome = await genjobs(scripted.address, "get", "7", cwd=tmp_path)
    assert outcome.code == 4
    assert outcome.stderr.splitlines() == [
        "error: there is no job 7 (JOB_NOT_FOUND)",
        "'genjobs list' shows the jobs you may see.",
    ]


async def test_the_token_of_the_environment_is_sent(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.script("ListJobs", ListJobsResponse())
    outcome = await genjobs(scripted.address, "list", cwd=tmp_path, GENJOBS_TOKEN="sesame")
    assert (outcome.code, outcome.stderr) == (0, "No jobs match.\n")
    assert scripted.metadata[0]["authorization"] == "Bearer sesame"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["submit"], "Missing option"),
        (["submit", "-p", "x", "--lora", "detail:high"], "is not a strength"),
        (["submit", "-p", "x", "--label", "nothing"], "not of the form KEY=VALUE"),
        (["submit", "-p", "x", "--label", "a=1", "--label", "a=2"], "given twice"),
        (["submit", "-p", "x", "--width", "2147483648"], "does not fit into 32 bits"),
        (["submit", "-p", "x", "--seed", "9223372036854775808"], "does not fit into 64 bits"),
        (["submit", "-p", "x", "--workflow", "missing.json"], "does not exist"),
        (["submit", "-p", "x", "--workflow", "latin1.json"], "can't decode"),
        (["submit", "-p", "x", "--template", "flux@new"], "is not a whole number"),
        (["submit", "-p", "x", "--template", "@2"], "not of the form NAME[@VERSION]"),
        (["submit", "-p", "x", "--template", "t", "--arg", "scale"], "not of the form NAME=VALUE"),
        (["submit", "-p", "x", "--arg", "scale=2"], "goes with --template"),
        (["submit", "-p", "x", "--template", "t", "--workflow", "latin1.json"], "one of the two"),
        (["submit", "-p", "x", "--type", "smell"], "is none of image, text, video, audio"),
        (["list", "--status", "done"], "is none of pending, running"),
        (["list", "--limit", "0"], "--limit"),
        (["get", "seven"], "is not a whole number"),
        (["get", "0"], "ids begin at 1"),
        (["--address", "http://localhost:1", "list"], "without http://"),
        (["--token", "sesame", "list"], "No such option"),
        (["--token-file", "latin1.json", "list"], "holds no token"),
        (["--token-file", "missing", "list"], "missing: No such file"),
        (["--on-behalf-of", "ada", "list"], "a valid UUID"),
        (["--tls-key", "latin1.json", "list"], "go together"),
        (["--tls-ca", "missing.pem", "list"], "missing.pem: No such file"),
        (["--tls-ca", "latin1.json", "list"], "holds no PEM certificate"),
        (["drain"], "Missing argument"),
        (["fail", "7"], "Missing option"),
        (["pause"], "give one of the two"),
        (["pause", "--backend", "comfyui", "--checkpoint", "sdxl"], "give one of the two"),
        (["unpause", "--reason", "done", "--backend", "comfyui"], "No such option"),
        (["explode"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_wrong_usage(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "latin1.json").write_bytes(b'"\xe9"')
    outcome = await genjobs("127.0.0.1:1", *arguments, cwd=tmp_path)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert complaint in " ".join(outcome.stderr.replace("│", " ").split())
    assert "Traceback" not in outcome.stderr


async def test_help_documents_the_exit_codes(tmp_path: Path) -> None:
    outcome = await genjobs("127.0.0.1:1", "--help", cwd=tmp_path)
    text = " ".join(outcome.stdout.split())
    assert outcome.code == 0
    for meaning in ("0 done", "1 the job failed or was cancelled", "2 wrong usage"):
        assert meaning in text
    assert "3 the service cannot be reached" in text
    assert "4 the service refused the request" in text
