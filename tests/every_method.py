"""Every RPC of every service of the contract, and how to call one by its descriptor."""

from collections.abc import AsyncIterable, Iterable
from typing import Any, Final

import grpc
from generation_jobs.v1 import (
    generation_job_service_pb2,
    model_service_pb2,
    operator_service_pb2,
    worker_service_pb2,
)
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

METHODS: Final[list[MethodDescriptor]] = [
    method
    for file, name in (
        (generation_job_service_pb2, "GenerationJobService"),
        (model_service_pb2, "ModelService"),
        (operator_service_pb2, "OperatorService"),
        (worker_service_pb2, "WorkerService"),
    )
    for method in file.DESCRIPTOR.services_by_name[name].methods
]
#: What is wrong with the request, or with what it is about; never that the service has failed.
BLAMELESS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


def path_of(method: MethodDescriptor) -> str:
    """The method's HTTP/2 path."""
    assert method.containing_service is not None
    return f"/{method.containing_service.full_name}/{method.name}"


def start_call(
    channel: grpc.aio.Channel,
    method: MethodDescriptor,
    sent: Iterable[Message | bytes] | AsyncIterable[Message | bytes],
    **options: Any,
) -> Any:
    """The started call; ``sent`` are the requests of a stream, else it has just one."""
    kind = f"{_kind(method.client_streaming)}_{_kind(method.server_streaming)}"
    call = getattr(channel, kind)(
        path_of(method),
        request_serializer=_serialized,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    if method.client_streaming:
        return call(iter(sent) if isinstance(sent, Iterable) else sent, **options)
    assert isinstance(sent, Iterable)
    (request,) = sent
    return call(request, **options)


async def first_answer(call: Any, method: MethodDescriptor) -> None:
    """Wait until the call is answered; a stream's first answer is enough.

    Raises AioRpcError.
    """
    if not method.server_streaming:
        await call
        return
    async for _ in call:
        call.cancel()
        break


def _serialized(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


def _kind(streaming: bool) -> str:
    return "stream" if streaming else "unary"
