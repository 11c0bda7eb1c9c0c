"""``comfy-worker check`` reaches both sides and disturbs nobody."""

import asyncio
import tempfile

import pytest

from comfy_worker import self_check
from comfy_worker.settings import Settings
from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service.client import JobServiceClient
from tests.worker.worker.asking import SECONDS, completed, picture
from tests.worker.worker.conftest import StartWorker


async def test_both_sides_are_there(service: str, simulator: Simulator) -> None:
    settings = Settings(job_service=service, name="box", comfyui_urls={"gpu": simulator.url})
    findings = await self_check.run(settings)
    assert [(finding.subject, finding.good) for finding in findings] == [
        (f"job_service at {service}", True),
        (f"ComfyUI gpu at {simulator.url}", True),
        ("temporary files", True),
    ]
    assert findings[0].says == "admits worker box"
    assert findings[1].says == "version 0.8.0 on cuda:0 Simulated GPU, 3 checkpoints, 3 LoRAs"


async def test_neither_side_is_there() -> None:
    settings = Settings(job_service="127.0.0.1:1", comfyui_urls={"gpu": "http://127.0.0.1:1"})
    findings = await self_check.run(settings)
    assert [finding.good for finding in findings] == [False, False, True]
    assert all(finding.says for finding in findings)
    assert "COMFY_WORKER_JOB_SERVICE" in findings[0].remedy
    assert "COMFY_WORKER_COMFYUI_URLS" in findings[1].remedy


async def test_no_room_for_temporary_files(
    service: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    settings = Settings(job_service=service, name="box", comfyui_urls={"gpu": simulator.url})
    *_, files = await self_check.run(settings)
    assert not files.good
    assert "TMPDIR" in files.remedy


async def test_a_comfyui_without_models(service: str) -> None:
    async with Simulator(SimulatorSettings(checkpoints=())) as empty:
        settings = Settings(job_service=service, name="box", comfyui_urls={"gpu": empty.url})
        findings = await self_check.run(settings)
    assert not findings[1].good
    assert "models/checkpoints" in findings[1].remedy


async def test_a_worker_of_the_same_name_is_not_superseded(
    service: str, jobs: JobServiceClient, simulator: Simulator, start_worker: StartWorker
) -> None:
    hold = simulator.faults.hold()
    worker = start_worker()
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    settings = Settings(job_service=service, name="box", comfyui_urls={"gpu": simulator.url})
    assert all(finding.good for finding in await self_check.run(settings))
    hold.release()
    done = await completed(jobs, asked.id)
    assert done.attempt == 1
    assert not worker.task.done()
