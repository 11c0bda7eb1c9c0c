"""What is served: every declared RPC, health, reflection."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import (
    generation_job_service_pb2,
    model_service_pb2,
    operator_service_pb2,
    worker_service_pb2,
)
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from tests.jobs_protocol import refusal

SERVICES = [
    service
    for file in (
        generation_job_service_pb2, model_service_pb2, operator_service_pb2, worker_service_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
]  # fmt: skip
NAMES = {service.full_name for service in SERVICES}


def _methods() -> Iterator[MethodDescriptor]:
    for service in SERVICES:
        yield from service.methods


async def _call(channel: Any, method: MethodDescriptor) -> grpc.StatusCode:
    """The status of a call with an empty request; an error must say its reason."""
    path = f"/{method.containing_service.full_name}/{method.name}"

    async def requests() -> AsyncIterator[bytes]:
        yield b""

    try:
        if method.client_streaming:
            await channel.stream_unary(path)(requests(), timeout=20)
        elif method.server_streaming:
            call = channel.unary_stream(path)(b"", timeout=20)
            async for _ in call:
                break
            call.cancel()
        else:
            await channel.unary_unary(path)(b"", timeout=20)
    except grpc.aio.AioRpcError as error:
        said = refusal(error)
        assert (said.status is grpc.StatusCode.UNIMPLEMENTED) == (said.reason == "NOT_IMPLEMENTED")
        return said.status
    return grpc.StatusCode.OK


async def test_every_declared_rpc_answers_an_empty_request_in_words(
    channel: grpc.aio.Channel, subtests: pytest.Subtests
) -> None:
    for method in _methods():
        with subtests.test(method.full_name):
            assert await _call(channel, method) in (
                grpc.StatusCode.OK,
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.UNIMPLEMENTED,
            )


async def test_every_service_is_healthy(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", *NAMES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services_and_describes_them(
    channel: grpc.aio.Channel, version: str
) -> None:
    call: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(timeout=20)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    listed = {service.name for service in answer.list_services_response.service}
    assert listed >= NAMES | {"grpc.health.v1.Health"}
    for name in NAMES:
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        answer = await call.read()
        assert answer.file_descriptor_response.file_descriptor_proto
    await call.done_writing()
