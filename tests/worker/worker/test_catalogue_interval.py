"""What a ComfyUI offers is read again from time to time."""

import asyncio

import grpc
import pytest

from comfy_worker.simulator import Simulator
from tests.operator_protocol import ProtocolOperator
from tests.worker.worker.asking import SECONDS
from tests.worker.worker.conftest import StartWorker

OLD, NEW = "0.8.0", "0.9.1"


async def versions(operator: ProtocolOperator) -> list[str]:
    """Of the ComfyUIs of every worker, as job_service knows them."""
    workers = await operator.workers()
    return [backend.comfyui_version for worker in workers for backend in worker.backends]


async def until_known(operator: ProtocolOperator, version: str) -> None:
    """Wait until job_service knows the worker's ComfyUI to be of this version."""
    async with asyncio.timeout(SECONDS):
        while await versions(operator) != [version]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_has_changed_is_found_and_reported_after_the_interval(
    channel: grpc.aio.Channel,
    start_worker: StartWorker,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMFY_WORKER_CATALOGUE_INTERVAL", "0.2")
    operator = ProtocolOperator(channel)
    start_worker()
    await until_known(operator, OLD)
    simulator.faults.version = NEW
    await until_known(operator, NEW)
