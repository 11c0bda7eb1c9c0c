"""genjobs for operators: what it asks for and what it prints."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from generation_jobs.v1.attempt_pb2 import Attempt, AttemptOutcome
from generation_jobs.v1.generation_job_service_pb2 import (
    GetQueueStatsRequest,
    GetQueueStatsResponse,
    RetryJobRequest,
    RetryJobResponse,
)
from generation_jobs.v1.job_error_pb2 import ErrorCode, JobError
from generation_jobs.v1.job_pb2 import GenerationJob, JobStatus, PendingReason
from generation_jobs.v1.operator_service_pb2 import (
    DispatchSelector,
    DrainWorkerRequest,
    DrainWorkerResponse,
    ExplainJobRequest,
    ExplainJobResponse,
    FailJobNowRequest,
    FailJobNowResponse,
    ListAttemptsResponse,
    ListWorkersRequest,
    ListWorkersResponse,
    PauseDispatchRequest,
    PauseDispatchResponse,
    RequeueJobRequest,
    RequeueJobResponse,
    ResumeDispatchRequest,
    ResumeDispatchResponse,
    ResumeWorkerResponse,
    Worker,
    WorkerBackend,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from job_service.client.cli.operators.worker_table import state_text
from tests.unit.client.command import genjobs
from tests.unit.client.messages import a_job, failure, unavailable
from tests.unit.client.scripted_service import ScriptedService

PENDING = JobStatus.JOB_STATUS_PENDING
RUNNING = JobStatus.JOB_STATUS_RUNNING
LONG_AGO = Timestamp(seconds=1_700_000_000)


def a_worker(name: str = "box-1", **fields: Any) -> Worker:
    """A live worker with one ComfyUI."""
    said: dict[str, Any] = {
        "live": True,
        "last_beat_at": LONG_AGO,
        "slots": 2,
        "backends": [
            WorkerBackend(
                name="gpu0",
                slots=2,
                comfyui_version="0.3.60",
                device="NVIDIA L4",
                loaded_checkpoint="sdxl.safetensors",
            )
        ],
    }
    return Worker(name=name, **{**said, **fields})


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


async def test_workers_are_a_table_with_a_row_for_each_comfyui(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    second = WorkerBackend(name="gpu1", device="NVIDIA\x1b[2J T4")
    busy = a_worker(job_ids=[7, 8], slots=4)
    busy.backends.append(second)
    scripted.script("ListWorkers", ListWorkersResponse(workers=[busy, a_worker("box-2")]))

    outcome = await genjobs(scripted.address, "workers", cwd=tmp_path)

    assert (outcome.code, outcome.stderr) == (0, "")
    heading, _, *rows = lines(outcome.stdout)
    assert heading.split() == [
        *("Worker", "State", "Last", "beat", "Jobs"),
        *("ComfyUI", "Version", "Device", "Checkpoint"),
    ]
    first, continued, other = rows
    assert first.split()[:2] == ["box-1", "live"]
    assert "d ago" in first
    assert first.split()[5:] == [
        *("2/4", "gpu0", "0.3.60", "NVIDIA", "L4", "sdxl.safetensors"),
    ]
    assert continued.split() == ["gpu1", "NVIDIA\ufffd[2J", "T4"]
    assert other.split()[:2] == ["box-2", "live"]
    assert scripted.requests["ListWorkers"] == [ListWorkersRequest()]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"live": True}, "live"),
        ({"live": True, "draining": True, "job_ids": [7]}, "draining"),
        ({"live": True, "draining": True}, "drained"),
        ({"live": False}, "gone"),
        ({"live": False, "draining": True}, "gone, drained"),
    ],
)
def test_the_state_of_a_worker(fields: dict[str, Any], state: str) -> None:
    assert state_text(a_worker(**fields)).plain == state


async def test_workers_all(scripted: ScriptedService, tmp_path: Path) -> None:
    worker = a_worker(backends=[], live=False, draining=True)
    scripted.script("ListWorkers", ListWorkersResponse(workers=[worker]))
    outcome = await genjobs(scripted.address, "workers", "--all", cwd=tmp_path)
    row = lines(outcome.stdout)[-1].split()
    assert (row[:3], row[-2:]) == (["box-1", "gone,", "drained"], ["0/2", "-"])
    assert scripted.requests["ListWorkers"] == [ListWorkersRequest(include_gone=True)]


async def test_workers_json_is_one_worker_a_line(scripted: ScriptedService, tmp_path: Path) -> None:
    workers = [Worker(name="box-1", job_ids=[7]), Worker(name="box-2")]
    scripted.script("ListWorkers", ListWorkersResponse(workers=workers))
    outcome = await genjobs(scripted.address, "workers", "--json", cwd=tmp_path)
    assert [json.loads(line) for line in outcome.stdout.splitlines()] == [
        {"name": "box-1", "job_ids": ["7"]},
        {"name": "box-2"},
    ]


async def test_no_workers(scripted: ScriptedService, tmp_path: Path) -> None:
    for _ in range(2):
        scripted.script("ListWorkers", ListWorkersResponse())
    connected = await genjobs(scripted.address, "workers", cwd=tmp_path)
    ever = await genjobs(scripted.address, "workers", "--all", cwd=tmp_path)
    assert (connected.code, connected.stdout) == (ever.code, ever.stdout) == (0, "")
    assert connected.stderr == "No worker is connected. --all shows those that were.\n"
    assert ever.stderr == "No worker has ever connected.\n"


@pytest.mark.parametrize(
    ("fields", "then"),
    [
        ({"job_ids": [7, 8]}, "It finishes the 2 jobs it has."),
        ({"job_ids": [7]}, "It finishes the 1 job it has."),
        ({}, "It has none left."),
        ({"live": False}, "It was last heard of"),
    ],
)
async def test_drain(
    fields: dict[str, Any], then: str, scripted: ScriptedService, tmp_path: Path
) -> None:
    drained = a_worker(draining=True, **fields)
    # asking again is safe, so it is done while the service is away
    scripted.script("DrainWorker", unavailable())
    scripted.script("DrainWorker", DrainWorkerResponse(worker=drained))
    outcome = await genjobs(scripted.address, "drain", "box-1", cwd=tmp_path)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith(f"Worker box-1 takes no more jobs. {then}")
    assert outcome.stdout.endswith("'genjobs resume box-1' ends that.\n")
    assert scripted.requests["DrainWorker"] == [DrainWorkerRequest(name="box-1")] * 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Worker box-1 takes jobs again.\n"),
        ({"draining": True}, "Worker box-1 is shutting down. Its successor takes jobs again.\n"),
        ({"live": False}, "Worker box-1 takes jobs again once it is back."),
    ],
)
async def test_resume(
    fields: dict[str, Any], said: str, scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.script("ResumeWorker", ResumeWorkerResponse(worker=a_worker(**fields)))
    outcome = await genjobs(scripted.address, "resume", "box-1", cwd=tmp_path)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith(said)


async def test_a_worker_that_is_not_there(scripted: ScriptedService, tmp_path: Path) -> None:
    refusal = failure(
        grpc.StatusCode.NOT_FOUND, "there is no worker 'box-9'", reason="WORKER_NOT_FOUND"
    )
    scripted.script("DrainWorker", refusal)
    outcome = await genjobs(scripted.address, "drain", "box-9", cwd=tmp_path)
    assert (outcome.code, outcome.stdout) == (4, "")
    assert outcome.stderr.splitlines() == [
        "error: there is no worker 'box-9' (WORKER_NOT_FOUND)",
        "'genjobs workers --all' shows every worker.",
    ]


async def test_the_queue(scripted: ScriptedService, tmp_path: Path) -> None:
    stats = GetQueueStatsResponse(
        pending=1_200,
        scheduled=2,
        unservable=3,
        running=4,
        oldest_wait=Duration(seconds=125),
        live_workers=5,
        slots=1,
        estimated_drain=Duration(seconds=3_720),
    )
    scripted.script("GetQueueStats", stats)
    outcome = await genjobs(scripted.address, "queue", cwd=tmp_path)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert lines(outcome.stdout) == [
        "Pending     1,200, the oldest for 2 min 05 s",
        "Scheduled   2",
        "Unservable  3 (no connected worker can run them)",
        "Running     4",
        "Workers     5 with 1 slot",
        "Worked off  in about 1 h 02 min",
    ]
    assert scripted.requests["GetQueueStats"] == [GetQueueStatsRequest()]


async def test_an_empty_queue_and_one_that_nobody_can_measure(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.script("GetQueueStats", GetQueueStatsResponse())
    scripted.script("GetQueueStats", GetQueueStatsResponse(pending=1))
    empty = await genjobs(scripted.address, "queue", cwd=tmp_path)
    new = await genjobs(scripted.address, "queue", cwd=tmp_path)
    assert lines(empty.stdout)[0] == "Pending     0"
    assert lines(empty.stdout)[-1] == "Worked off  -"
    assert lines(new.stdout)[-1] == "Worked off  nobody can tell yet"


async def test_queue_json(scripted: ScriptedService, tmp_path: Path) -> None:
    stats = GetQueueStatsResponse(pending=2, oldest_wait=Duration(seconds=3))
    scripted.script("GetQueueStats", stats)
    outcome = await genjobs(scripted.address, "queue", "--json", cwd=tmp_path)
    assert json.loads(outcome.stdout) == {"pending": "2", "oldest_wait": "3s"}


async def test_explain_a_pending_job(scripted: ScriptedService, tmp_path: Path) -> None:
    explained = ExplainJobResponse(
        explanation="It waits.\x1b[2J It has had 1 attempt.",
        pending_reason=PendingReason.PENDING_REASON_NO_WORKER_OFFERS,
        jobs_ahead=2,
        missing=["checkpoint sdxl", "LoRA glow"],
        next_change=Duration(seconds=65),
        job=a_job(PENDING),
    )
    scripted.script("ExplainJob", explained)
    outcome = await genjobs(scripted.address, "explain", "7", cwd=tmp_path)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert lines(outcome.stdout) == [
        "It waits.\ufffd[2J It has had 1 attempt.",
        "Job           7",
        "Status        pending",
        "Waits for     no connected worker offers its checkpoint, LoRAs, nodes, type or backend",
        "Jobs ahead    2",
        "Able workers  none",
        "Missing       checkpoint sdxl, LoRA glow",
        "Next change   in 1 min 05 s",
    ]
    assert scripted.requests["ExplainJob"] == [ExplainJobRequest(job_id=7)]


async def test_explain_a_running_job(scripted: ScriptedService, tmp_path: Path) -> None:
    explained = ExplainJobResponse(
        explanation="Worker box-1 executes it.",
        worker="box-1",
        comfyui_backend="box-1/gpu0",
        comfyui_prompt_id="0a1b",
        last_beat_at=LONG_AGO,
        job=a_job(RUNNING),
    )
    scripted.script("ExplainJob", explained)
    outcome = await genjobs(scripted.address, "explain", "7", cwd=tmp_path)
    shown = lines(outcome.stdout)
    assert shown[0] == "Worker box-1 executes it."
    assert "Backend    box-1/gpu0" in shown
    assert "Prompt id  0a1b" in shown
    assert any(line.startswith("Last beat  ") and line.endswith("d ago") for line in shown)
    assert not any(line.startswith(("Jobs ahead", "Able workers", "Next")) for line in shown)


async def test_explain_json(scripted: ScriptedService, tmp_path: Path) -> None:
    explained = ExplainJobResponse(explanation="It waits.", able_workers=["box-1"])
    scripted.script("ExplainJob", explained)
    outcome = await genjobs(scripted.address, "explain", "7", "--json", cwd=tmp_path)
    assert json.loads(outcome.stdout) == {"explanation": "It waits.", "able_workers": ["box-1"]}


async def test_attempts_are_a_table_and_what_an_operator_needs_of_each_error(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    failed = Attempt(
        attempt=1,
        comfyui_backend="box-1/gpu0",
        comfyui_prompt_id="0a1b",
        leased_at=LONG_AGO,
        ended_at=Timestamp(seconds=LONG_AGO.seconds + 3),
        outcome=AttemptOutcome.ATTEMPT_OUTCOME_FAILED,
        charged=True,
        error=JobError(
            code=ErrorCode.ERROR_CODE_OUT_OF_MEMORY,
            message="The GPU ran out of memory.",
            technical_details="Traceback\n  torch\x1b[2J",
        ),
    )
    running = Attempt(attempt=2, worker="box-2", leased_at=LONG_AGO)
    scripted.script("ListAttempts", ListAttemptsResponse(attempts=[failed, running]))

    outcome = await genjobs(scripted.address, "attempts", "7", cwd=tmp_path)

    assert (outcome.code, outcome.stderr) == (0, "")
    heading, _, first, second, *details = lines(outcome.stdout)
    assert heading.split() == ["#", "Backend", "Leased", "Outcome", "Charged", "Took", "Error"]
    assert first.split()[:2] == ["1", "box-1/gpu0"]
    assert first.split()[4:] == ["failed", "yes", "3.0", "s", "out_of_memory"]
    assert second.split()[:2] == ["2", "box-2"]
    assert second.split()[4:] == ["running"]
    assert details == [
        "Attempt 1, prompt 0a1b",
        "  The GPU ran out of memory. (out_of_memory)",
        "  | Traceback",
        "  |   torch\ufffd[2J",
    ]


async def test_attempts_json_and_none(scripted: ScriptedService, tmp_path: Path) -> None:
    attempts = [Attempt(attempt=1), Attempt(attempt=2)]
    scripted.script("ListAttempts", ListAttemptsResponse(attempts=attempts))
    scripted.script("ListAttempts", ListAttemptsResponse())
    some = await genjobs(scripted.address, "attempts", "7", "--json", cwd=tmp_path)
    none = await genjobs(scripted.address, "attempts", "7", cwd=tmp_path)
    assert [json.loads(line) for line in some.stdout.splitlines()] == [
        {"attempt": 1},
        {"attempt": 2},
    ]
    assert (none.code, none.stdout) == (0, "")
    assert none.stderr == "Job 7 has not been tried yet.\n"


CHANGES = [
    (["requeue", "7"], "RequeueJob", RequeueJobRequest(job_id=7), RequeueJobResponse),
    (["retry", "7"], "RetryJob", RetryJobRequest(id=7), RetryJobResponse),
    (
        ["fail", "7", "--reason", "no more"],
        "FailJobNow",
        FailJobNowRequest(job_id=7, reason="no more"),
        FailJobNowResponse,
    ),
]


@pytest.mark.parametrize(("arguments", "method", "request_", "response"), CHANGES)
@pytest.mark.parametrize(
    ("job", "said"),
    [
        (a_job(PENDING), "Job 7 is pending again. 'genjobs watch 7' follows it.\n"),
        (
            a_job(RUNNING, comfyui_backend="box-2/gpu0"),
            "Job 7 is running again, on box-2/gpu0.\n",
        ),
        (
            a_job(JobStatus.JOB_STATUS_FAILED, error=JobError(message="no\nmore")),
            "Job 7 has failed: no more\n",
        ),
        (
            a_job(JobStatus.JOB_STATUS_CANCELLED),
            "Job 7 is cancelled, which had been asked for before.\n",
        ),
    ],
    ids=["pending", "running", "failed", "cancelled"],
)
async def test_what_becomes_of_a_job(
    arguments: list[str],
    method: str,
    request_: Message,
    response: type[RequeueJobResponse],
    job: GenerationJob,
    said: str,
    scripted: ScriptedService,
    tmp_path: Path,
) -> None:
    scripted.script(method, response(job=job))
    scripted.script(method, response(job=job))
    outcome = await genjobs(scripted.address, *arguments, cwd=tmp_path)
    printed = await genjobs(scripted.address, *arguments, "--json", cwd=tmp_path)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, said, "")
    assert json.loads(printed.stdout)["id"] == "7"
    assert scripted.requests[method] == [request_] * 2


@pytest.mark.parametrize(("arguments", "method", "request_", "response"), CHANGES)
async def test_what_must_not_be_done_twice_is_asked_for_once(
    arguments: list[str],
    method: str,
    request_: Message,
    response: type[Message],
    scripted: ScriptedService,
    tmp_path: Path,
) -> None:
    scripted.script(method, unavailable())
    outcome = await genjobs(scripted.address, *arguments, cwd=tmp_path)
    assert (outcome.code, outcome.stdout) == (3, "")
    assert scripted.requests[method] == [request_]


async def test_pause_and_unpause(scripted: ScriptedService, tmp_path: Path) -> None:
    scripted.script("PauseDispatch", PauseDispatchResponse(affected_pending=1_200))
    scripted.script("ResumeDispatch", ResumeDispatchResponse(affected_pending=1))
    scripted.script("PauseDispatch", PauseDispatchResponse())

    paused = await genjobs(
        *(scripted.address, "pause", "--checkpoint", "my model", "--reason", "a new disk"),
        cwd=tmp_path,
    )
    resumed = await genjobs(scripted.address, "unpause", "--checkpoint", "my model", cwd=tmp_path)
    printed = await genjobs(
        *(scripted.address, "pause", "--backend", "kerniegen", "--json"), cwd=tmp_path
    )

    assert (paused.code, paused.stderr) == (0, "")
    assert paused.stdout == (
        "Paused; 1,200 pending jobs affected."
        " To end that: genjobs unpause --checkpoint 'my model'\n"
    )
    assert (resumed.code, resumed.stdout) == (
        0,
        "Not paused any more; 1 pending job can be dispatched again.\n",
    )
    assert (printed.code, json.loads(printed.stdout)) == (0, {})
    selector = DispatchSelector(checkpoint_model="my model")
    assert scripted.requests["PauseDispatch"] == [
        PauseDispatchRequest(selector=selector, reason="a new disk"),
        PauseDispatchRequest(selector=DispatchSelector(backend_label="kerniegen")),
    ]
    assert scripted.requests["ResumeDispatch"] == [ResumeDispatchRequest(selector=selector)]


async def test_somebody_who_is_no_admin(scripted: ScriptedService, tmp_path: Path) -> None:
    refusal = failure(
        grpc.StatusCode.PERMISSION_DENIED, "anna has the role user", reason="ROLE_NOT_ALLOWED"
    )
    scripted.script("ListWorkers", refusal)
    outcome = await genjobs(scripted.address, "workers", cwd=tmp_path)
    assert outcome.code == 4
    assert outcome.stderr.splitlines()[-1] == "Use a token whose role allows this."
