"""What gRPC calls for one method, taken apart and put together again around something."""

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def behaviour_of(handler: Handler) -> Any:
    """The function that serves the method, of whichever kind.

    grpc's handler types describe threads; these behaviours are the asynchronous servicers'.
    """
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary


def served_by(
    behaviour: Any, like: Handler, request_deserializer: Callable[[bytes], Any] | None
) -> Handler:
    """A handler of the same kind and with the same answers, whose method ``behaviour`` serves."""
    if like.request_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler
            if like.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    else:
        make = (
            grpc.unary_stream_rpc_method_handler
            if like.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
    return make(behaviour, request_deserializer, like.response_serializer)
