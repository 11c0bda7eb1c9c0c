"""Server reflection, in the version that tools ask for first and in the one grpcio serves."""

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

_V1 = "grpc.reflection.v1.ServerReflection"


def serve_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Let clients discover ``services`` through v1 and v1alpha.

    The two differ in their package's name alone; grpcio-reflection 1.85 knows only v1alpha.
    """
    servicer = reflection.aio.ReflectionServicer(
        [*services, reflection.SERVICE_NAME], pool=descriptor_pool.Default()
    )
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
        servicer, server
    )
    v1 = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_V1, {"ServerReflectionInfo": v1}),)
    )
