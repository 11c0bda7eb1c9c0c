"""How many jobs one replica takes and gets done, beside systems that promise less."""

from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2_grpc
from sqlalchemy import URL

from tests.benchmarks.load.requests import create_request
from tests.benchmarks.measuring import in_turn, ratio, spread
from tests.benchmarks.processes import Replica, database, load, module_process
from tests.benchmarks.report import Report
from tests.end_to_end.real_processes import free_address

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
]

CLIENTS: Final = 16
ROUNDS: Final = 3
SECONDS: Final = 3
BATCH: Final = 64


def rates(measured: list[dict[str, Any]]) -> list[float]:
    return [one["a_second"] for one in measured]


async def test_unary_create_job(durable_replica: Replica, tmp_path: Path, report: Report) -> None:
    section = "CreateJob, unary and durable"
    async with grpc.aio.insecure_channel(durable_replica.address) as channel:
        stub = generation_job_service_pb2_grpc.GenerationJobServiceStub(channel)
        answer = await stub.CreateJob(create_request(0), timeout=30)
    (tmp_path / "answer").write_bytes(answer.SerializeToString())
    address = free_address()
    echo = module_process("echo_server", address, tmp_path / "answer", log=tmp_path / "echo.log")

    async def created() -> dict[str, Any]:
        before = durable_replica.process.cpu_seconds()
        measured = await load("create_jobs", durable_replica.address, CLIENTS, SECONDS)
        used = durable_replica.process.cpu_seconds() - before
        return {**measured, "cpu_ms": used / measured["calls"] * 1000}

    async def echoed() -> dict[str, Any]:
        before = echo.cpu_seconds()
        measured = await load("create_jobs", address, CLIENTS, SECONDS)
        return {**measured, "cpu_ms": (echo.cpu_seconds() - before) / measured["calls"] * 1000}

    async with echo:
        baseline, ours = await in_turn(ROUNDS, echoed, created)

    report.note(
        section,
        f"{CLIENTS} clients in one process with a connection each; requests of "
        f"{create_request(0).ByteSize()} bytes, answers of {answer.ByteSize()}.",
    )
    for what, measured, compared, aim in (
        ("bare grpc.aio echo of the same messages", baseline, "", ""),
        ("CreateJob", ours, f"{ratio(rates(ours), rates(baseline)):.2f} of the echo", "0.60"),
    ):
        report.add(section, what, spread(rates(measured), "calls/s"), ratio=compared, aim=aim)
        report.add(
            section, "- latency, median", spread([one["median_ms"] for one in measured], "ms")
        )
        report.add(section, "- latency, p95", spread([one["p95_ms"] for one in measured], "ms"))
        report.add(
            section,
            "- server's processor time a call",
            spread([one["cpu_ms"] for one in measured], "ms"),
        )


async def test_full_lifecycle(
    durable_replica: Replica, durable_server: URL, report: Report
) -> None:
    section = "Create, lease, complete"
    async with (
        database(durable_server, "bench_pgqueuer") as pgqueuer,
        database(durable_server, "bench_procrastinate") as procrastinate,
    ):
        ours, ours_batched, few_taken, many_taken, theirs_batched, others = await in_turn(
            ROUNDS,
            lambda: load("lifecycle", durable_replica.address, CLIENTS, SECONDS, 1),
            lambda: load("lifecycle", durable_replica.address, CLIENTS, SECONDS, BATCH),
            # which of these is faster changes with the machine: compared with the faster one
            lambda: load("pgqueuer_lifecycle", pgqueuer, CLIENTS, SECONDS, 1, 1, 10),
            lambda: load("pgqueuer_lifecycle", pgqueuer, CLIENTS, SECONDS, 1, 1, 64),
            lambda: load("pgqueuer_lifecycle", pgqueuer, CLIENTS, SECONDS, BATCH, 2, 64),
            lambda: load("procrastinate_lifecycle", procrastinate, CLIENTS, SECONDS),
        )

    theirs = [
        max(pair, key=lambda one: float(one["a_second"]))
        for pair in zip(few_taken, many_taken, strict=True)
    ]
    report.note(
        section,
        f"{CLIENTS} clients; one replica, through gRPC, unary completion, no artifacts. pgqueuer "
        "and procrastinate enqueue and process no-op jobs in one process without gRPC.",
    )
    unit = "jobs/s"
    report.add(
        section, "pgqueuer, one job a call (faster of two settings)", spread(rates(theirs), unit)
    )
    report.add(section, f"pgqueuer, {BATCH} jobs a call", spread(rates(theirs_batched), unit))
    report.add(section, "procrastinate, one job a call", spread(rates(others), unit))
    report.add(
        section,
        "CreateJob",
        spread(rates(ours), unit),
        ratio=f"{ratio(rates(ours), rates(theirs)):.2f} of pgqueuer, "
        f"{ratio(rates(ours), rates(others)):.2f} of procrastinate",
        aim="0.80, 3",
    )
    what = f"BatchCreateJobs, {BATCH} jobs a call"
    if any("unserved" in one for one in ours_batched):
        report.add(section, what, "not served yet", aim="1.20")
        return
    report.add(
        section,
        what,
        spread(rates(ours_batched), unit),
        ratio=f"{ratio(rates(ours_batched), rates(theirs)):.2f} of pgqueuer one a call, "
        f"{ratio(rates(ours_batched), rates(theirs_batched)):.2f} of it batched",
        aim="1.20",
    )
