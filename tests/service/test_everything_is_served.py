"""Everything that the contract declares is served."""

from typing import Any

import grpc
from generation_jobs.v1 import (
    generation_job_service_pb2,
    model_service_pb2,
    operator_service_pb2,
    worker_service_pb2,
)

SERVICES = [
    file.DESCRIPTOR.services_by_name[name]
    for file, name in (
        (generation_job_service_pb2, "GenerationJobService"),
        (model_service_pb2, "ModelService"),
        (operator_service_pb2, "OperatorService"),
        (worker_service_pb2, "WorkerService"),
    )
]


async def _is_unimplemented(channel: grpc.aio.Channel, path: str) -> bool:
    """Send an empty request; a service in Python takes a unary one for any kind of call."""
    method: Any = channel.unary_stream(path)
    call = method(b"", timeout=20)
    try:
        async for _ in call:
            call.cancel()
            break
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return False


async def test_nothing_in_the_contract_answers_unimplemented(channel: grpc.aio.Channel) -> None:
    unimplemented = {
        f"{service.name}/{rpc.name}"
        for service in SERVICES
        for rpc in service.methods
        if await _is_unimplemented(channel, f"/{service.full_name}/{rpc.name}")
    }

    assert not unimplemented
