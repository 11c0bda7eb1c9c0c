"""What a service and a worker cost that have nothing to do."""

import asyncio
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.benchmarks.processes import MeasuredProcess, Replica
from tests.benchmarks.report import Report
from tests.end_to_end.real_processes import free_address

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120),
]

SECONDS: Final = 20
#: Until everything has registered and PostgreSQL has counted it.
SETTLED: Final = 10


async def test_idle_service_and_worker(
    durable_replica: Replica, tmp_path: Path, report: Report
) -> None:
    section = "Idle"
    comfyui = free_address()
    simulator = MeasuredProcess(
        ["comfy-simulator", "--listen", comfyui], tmp_path / "simulator.log"
    )
    worker = MeasuredProcess(
        ["comfy-worker", "run"],
        tmp_path / "worker.log",
        COMFY_WORKER_JOB_SERVICE=durable_replica.address,
        COMFY_WORKER_COMFYUI_URLS=f"http://{comfyui}",
        COMFY_WORKER_NAME="bench",
    )
    parts = {"job_service": durable_replica.process, "comfy_worker": worker}
    async with (
        await psycopg.AsyncConnection.connect(
            durable_replica.database_url, autocommit=True
        ) as database,
        simulator,
        worker,
    ):
        await asyncio.sleep(SETTLED)
        assert await _count(database, "SELECT count(*) FROM backend_catalogues") == 1
        used = {name: part.cpu_seconds() for name, part in parts.items()}
        statements = await _count(database, _COMMITTED)
        await asyncio.sleep(SECONDS)
        used = {name: part.cpu_seconds() - used[name] for name, part in parts.items()}
        # the second reading is a statement itself
        statements = await _count(database, _COMMITTED) - statements - 1

    report.note(section, f"One service, one worker, one simulated ComfyUI, over {SECONDS} s.")
    for name, seconds in used.items():
        report.add(section, f"{name}: processor time", f"{seconds / SECONDS * 60:.2f} s a minute")
    report.add(
        section,
        "statements at the database",
        f"{statements / SECONDS:.2f} a second",
        aim="each at most 1 a second",
    )


# Every statement of an idle service is a transaction of its own.
_COMMITTED: Final = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


async def _count(database: "psycopg.AsyncConnection[tuple[int]]", query: str) -> int:
    found = await (await database.execute(query.encode())).fetchone()
    return found[0] if found else 0
