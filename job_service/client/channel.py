"""The connection: where the service is, how it is trusted, and the token sent along."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import grpc

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

# gRPC waits up to two minutes between attempts to connect; people and watches wait less.
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


class CredentialsError(ValueError):
    """The token or the root certificates cannot be used; the message says why."""


def open_channel(address: str, token: str | None, tls_root: Path | None) -> grpc.aio.Channel:
    """Open a channel to ``address`` ("host:port") inside a running event loop.

    With ``tls_root``, a PEM file of root certificates, over TLS; otherwise in the clear.
    Raises CredentialsError if the token cannot be sent or the file holds no certificate,
    OSError if it cannot be read.
    """
    interceptors = _authorising(token) if token is not None else ()
    if tls_root is None:
        return grpc.aio.insecure_channel(address, _OPTIONS, interceptors=interceptors)
    roots = tls_root.read_bytes()
    if b"-----BEGIN CERTIFICATE-----" not in roots:
        raise CredentialsError(f"{tls_root} holds no PEM certificate")
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    return grpc.aio.secure_channel(address, credentials, _OPTIONS, interceptors=interceptors)


def _authorising(token: str) -> tuple[grpc.aio.ClientInterceptor, ...]:
    if not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise CredentialsError("the token must be printable ASCII without spaces around it")
    entry = ("authorization", f"Bearer {token}")
    return (
        _UnaryUnary(entry),
        _UnaryStream(entry),
        _StreamUnary(entry),
    )


class _Authorising:
    def __init__(self, entry: tuple[str, str]) -> None:
        self._entry = entry

    def _with_token(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        return grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=details.timeout,
            metadata=grpc.aio.Metadata(*(details.metadata or ()), self._entry),
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


# gRPC takes an interceptor for one kind of call only, whatever else it can do.
class _UnaryUnary(_Authorising, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request],
            Awaitable["grpc.aio.UnaryUnaryCall[_Request, _Response]"],
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> "_Response | grpc.aio.UnaryUnaryCall[_Request, _Response]":
        return await continuation(self._with_token(client_call_details), request)


class _UnaryStream(_Authorising, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request],
            Awaitable["grpc.aio.UnaryStreamCall[_Request, _Response]"],
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> "AsyncIterator[_Response] | grpc.aio.UnaryStreamCall[_Request, _Response]":
        return await continuation(self._with_token(client_call_details), request)


class _StreamUnary(_Authorising, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, AsyncIterable[_Request] | Iterable[_Request]],
            Awaitable["grpc.aio.StreamUnaryCall[_Request, _Response]"],
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: AsyncIterable[_Request] | Iterable[_Request],
    ) -> "_Response | grpc.aio.StreamUnaryCall[_Request, _Response]":
        return await continuation(self._with_token(client_call_details), request_iterator)
