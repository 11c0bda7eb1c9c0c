"""What is declared but not built says so, and the README lists exactly that."""

import re
from pathlib import Path
from typing import Any

import grpc
from generation_jobs.v1 import (
    generation_job_service_pb2,
    model_service_pb2,
    operator_service_pb2,
    worker_service_pb2,
)

README = Path(__file__).parents[2] / "README.md"
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


def listed_as_unimplemented() -> set[str]:
    """What the README says is not built, as "Service/Rpc"."""
    section = README.read_text().partition("answering UNIMPLEMENTED:")[2].partition("\n## ")[0]
    return {
        f"{service}/{rpc}"
        for service, rpcs in re.findall(r"- `(\w+)`: ([\w,\s]+)", section)
        for rpc in re.findall(r"\w+", rpcs)
    }


async def test_the_readme_lists_what_answers_unimplemented(channel: grpc.aio.Channel) -> None:
    unimplemented = {
        f"{service.name}/{rpc.name}"
        for service in SERVICES
        for rpc in service.methods
        if await _is_unimplemented(channel, f"/{service.full_name}/{rpc.name}")
    }

    assert unimplemented == listed_as_unimplemented()
