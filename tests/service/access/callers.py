"""Callers with tokens, and what the service says to each."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.jobs_protocol import refusal

ALICE, BOB = UUID(int=0xA11CE), UUID(int=0xB0B)


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a call. ``responses``: all, or of a stream that does not end the first."""

    status: grpc.StatusCode
    reason: str
    message: str
    responses: Sequence[Any]


def metadata(token: str | None, user: UUID | None = None) -> tuple[tuple[str, str], ...]:
    """What a caller sends along."""
    return (
        *((("authorization", f"Bearer {token}"),) if token is not None else ()),
        *((("x-on-behalf-of", str(user)),) if user is not None else ()),
    )


class Caller:
    """Somebody with a token, perhaps on behalf of a user."""

    def __init__(
        self, channel: grpc.aio.Channel, token: str | None, user: UUID | None = None
    ) -> None:
        self._channel: Any = channel
        self.metadata = metadata(token, user)

    async def call(self, method: MethodDescriptor, *requests: Message) -> Answer:
        """Call an RPC; an error must say its reason."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        options = {
            "request_serializer": type(requests[0]).SerializeToString,
            "response_deserializer": GetMessageClass(method.output_type).FromString,
        }
        sent = {"metadata": self.metadata, "timeout": 30}
        try:
            if method.client_streaming:
                stream = _stream(requests)
                responses = [await self._channel.stream_unary(path, **options)(stream, **sent)]
            elif method.server_streaming:
                call = self._channel.unary_stream(path, **options)(requests[0], **sent)
                responses = [await anext(aiter(call))]
                call.cancel()
            else:
                responses = [await self._channel.unary_unary(path, **options)(requests[0], **sent)]
        except grpc.aio.AioRpcError as error:
            said = refusal(error)
            return Answer(said.status, said.reason, said.message, ())
        return Answer(grpc.StatusCode.OK, "", "", responses)


async def _stream(messages: Iterable[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message
