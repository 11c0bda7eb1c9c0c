"""A gRPC peer on a real socket that answers clients and operators as a test tells it to.

It stands for what a healthy service never does: break off, corrupt, refuse on cue.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
from generation_jobs.v1 import generation_job_service_pb2, operator_service_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

_SERVICES = (
    generation_job_service_pb2.DESCRIPTOR.services_by_name["GenerationJobService"],
    operator_service_pb2.DESCRIPTOR.services_by_name["OperatorService"],
)


class Hold:
    """In a script: nothing more comes, until the caller goes away."""


Step: TypeAlias = Message | Status | type[Hold]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ScriptedService:
    """Answers each call of a method with the next of its scripts.

    A script is the messages of one answer; a Status in it ends the call with that error,
    Hold leaves it open. A call without a script fails the test with UNIMPLEMENTED.
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._scripts: dict[str, deque[tuple[Step, ...]]] = defaultdict(deque)
        self._credentials = credentials
        self.requests: dict[str, list[Message]] = defaultdict(list)
        self.metadata: list[dict[str, str | bytes]] = []
        self.call_begun = asyncio.Event()
        self.call_ended = asyncio.Event()
        self.address = ""

    def script(self, method: str, *steps: Step) -> None:
        """Queue the answer to one call of ``method``."""
        self._scripts[method].append(steps)

    def unused(self) -> dict[str, int]:
        """Answer how many scripts of each method no call has used."""
        return {method: len(left) for method, left in self._scripts.items() if left}

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        for service in _SERVICES:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service.full_name, handlers),)
            )
        if self._credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", self._credentials)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.stop(grace=None)

    def _handler(self, method: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        kind: Callable[..., grpc.RpcMethodHandler[Any, Any]]
        if method.client_streaming:
            kind, answer = grpc.stream_unary_rpc_method_handler, self._unary(method.name)
        elif method.server_streaming:
            kind, answer = grpc.unary_stream_rpc_method_handler, self._stream(method.name)
        else:
            kind, answer = grpc.unary_unary_rpc_method_handler, self._unary(method.name)
        return kind(
            answer,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )

    def _unary(self, method: str) -> Callable[[Message, "Context"], Any]:
        async def answer(request: Message, context: Context) -> Message | None:
            async for message in self._play(method, request, context):
                return message
            return None

        return answer

    def _stream(self, method: str) -> Callable[[Message, "Context"], Any]:
        async def answer(request: Message, context: Context) -> AsyncIterator[Message]:
            async for message in self._play(method, request, context):
                yield message

        return answer

    async def _play(
        self, method: str, request: Message, context: Context
    ) -> AsyncIterator[Message]:
        self.call_begun.set()
        self.requests[method].append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        if not self._scripts[method]:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no script for {method}")
        for step in self._scripts[method].popleft():
            if isinstance(step, Message) and not isinstance(step, Status):
                yield step
            elif isinstance(step, Status):
                await context.abort_with_status(rpc_status.to_status(step))
            else:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.call_ended.set()
