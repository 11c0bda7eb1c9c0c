"""The connection: where the service is, how it is protected, and who is said to call."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import grpc

from job_service.access.exposure import is_loopback

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

#: What every channel is opened with.
CHANNEL_OPTIONS: Sequence[tuple[str, int | str]] = (
    # Finds connections that are dead without having been closed. The service allows a ping every
    # ten seconds (JOB_SERVICE_MIN_PING_INTERVAL).
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC waits up to two minutes between attempts to connect; people and watches wait less.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


class CredentialsError(ValueError):
    """The address, the token or a certificate cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How the connection is protected. All files are PEM files.

    ``ca``: who signs the service's certificate; None: whom gRPC trusts by itself. ``certificate``
    (with its chain) and ``key``: this side's own, where the service asks for one.
    ``server_name``: what the service's certificate says, where that is not the address.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None


def open_channel(
    address: str,
    token: "str | TokenFile | None" = None,
    tls: Tls | None = None,
    on_behalf_of: UUID | None = None,
    options: Sequence[tuple[str, int | str]] = CHANNEL_OPTIONS,
    *,
    token_in_clear: bool = False,
) -> grpc.aio.Channel:
    """Open a channel to ``address`` inside a running event loop.

    The address is "host:port", or "grpcs://host:port" for TLS. With ``tls`` over TLS, too;
    otherwise in the clear, which a token leaves this machine by only with ``token_in_clear``. A
    gateway acts for the user ``on_behalf_of``.

    Raises CredentialsError if the token cannot or may not be sent or a file holds no certificate,
    OSError if one cannot be read.
    """
    scheme, separator, target = address.rpartition("://")
    if separator and scheme not in ("grpc", "grpcs"):
        raise CredentialsError("the address must be host:port, or grpcs://host:port for TLS")
    if scheme == "grpcs" and tls is None:
        tls = Tls()
    interceptors = _authorising(token, on_behalf_of)
    if tls is None:
        if token is not None and not (token_in_clear or _is_here(target)):
            raise CredentialsError(
                f"the token would go to {target} in the clear, for everybody on the way to read:"
                f" use TLS (grpcs://{target}), or allow it where the way is trusted"
                " (GENJOBS_TOKEN_IN_CLEAR=true, token_in_clear=True)"
            )
        return grpc.aio.insecure_channel(target, options, interceptors=interceptors)
    if tls.server_name is not None:
        options = (*options, ("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(target, _credentials(tls), options, interceptors=interceptors)


def _is_here(target: str) -> bool:
    """Whether what is sent there stays on this machine."""
    return target.startswith("unix:") or is_loopback(target)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    if (tls.certificate is None) != (tls.key is None):
        raise CredentialsError("a client certificate and its key go together")
    return grpc.ssl_channel_credentials(
        root_certificates=None if tls.ca is None else _pem(tls.ca, "CERTIFICATE"),
        private_key=None if tls.key is None else _pem(tls.key, "PRIVATE KEY"),
        certificate_chain=None if tls.certificate is None else _pem(tls.certificate, "CERTIFICATE"),
    )


def _pem(path: Path, what: str) -> bytes:
    content = path.read_bytes()
    if not re.search(rb"-----BEGIN ([A-Z]+ )?%b-----" % what.encode(), content):
        raise CredentialsError(f"{path} holds no PEM {what.lower()}")
    return content


class TokenFile:
    """A token in a file, read again when the file changes.

    Raises OSError if the file cannot be read the first time, CredentialsError if what it holds
    cannot be sent; later the token before counts on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()
        self._token = self._read()

    def current(self) -> str:
        """The token now."""
        with suppress(OSError, CredentialsError):  # being replaced; the next call looks again
            stamp = self._look()
            if stamp != self._stamp:
                self._token = self._read()
                self._stamp = stamp
        return self._token

    def _look(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> str:
        try:
            return _sendable(self._path.read_text(encoding="utf-8").strip())
        except UnicodeDecodeError:
            raise CredentialsError(f"{self._path} holds no token") from None


def _sendable(token: str) -> str:
    if not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise CredentialsError("the token must be printable ASCII without spaces around it")
    return token


def _authorising(
    token: str | TokenFile | None, on_behalf_of: UUID | None
) -> tuple[grpc.aio.ClientInterceptor, ...]:
    if token is None and on_behalf_of is None:
        return ()
    if isinstance(token, str):
        _sendable(token)

    def entries() -> tuple[tuple[str, str], ...]:
        sent = token.current() if isinstance(token, TokenFile) else token
        return (
            *((("authorization", f"Bearer {sent}"),) if sent is not None else ()),
            *((("x-on-behalf-of", str(on_behalf_of)),) if on_behalf_of is not None else ()),
        )

    return _UnaryUnary(entries), _UnaryStream(entries), _StreamUnary(entries)


class _Authorising:
    def __init__(self, entries: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self._entries = entries

    def _with_entries(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        return grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=details.timeout,
            metadata=grpc.aio.Metadata(*(details.metadata or ()), *self._entries()),
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
        return await continuation(self._with_entries(client_call_details), request)


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
        return await continuation(self._with_entries(client_call_details), request)


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
        return await continuation(self._with_entries(client_call_details), request_iterator)
