"""A service with clients; where a row needs them, a simulated ComfyUI and workers on it."""

from typing import Any

import grpc
import pytest
from generation_jobs.v1 import model_service_pb2_grpc

from tests.operator_protocol import ProtocolOperator
from tests.worker.worker import conftest as with_comfyui

jobs = with_comfyui.jobs
simulator = with_comfyui.simulator
start_worker = with_comfyui.start_worker
step_seconds = with_comfyui.step_seconds


@pytest.fixture
def operator(channel: grpc.aio.Channel) -> ProtocolOperator:
    """An operator of the running job_service."""
    return ProtocolOperator(channel)


@pytest.fixture
def models(channel: grpc.aio.Channel) -> Any:
    """ModelService of the running job_service."""
    return model_service_pb2_grpc.ModelServiceStub(channel)
