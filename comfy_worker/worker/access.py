"""Where job_service is, how it is spoken to, and by which token the worker is known."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from comfy_worker.cannot_run import CannotRunError


class TokenFile:
    """A token in a file, read again when the file changes.

    Raises OSError if the file cannot be read the first time, CannotRunError if it holds no token;
    later the token before counts on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()
        self._token = self._read()

    def current(self) -> str:
        """The token now."""
        with suppress(OSError, CannotRunError):  # being replaced; the next call looks again
            stamp = self._look()
            if stamp != self._stamp:
                self._token = self._read()
                self._stamp = stamp
        return self._token

    def _look(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> str:
        token = self._path.read_text(encoding="utf-8", errors="replace").strip()
        if not (token and token.isascii() and token.isprintable()):
            raise CannotRunError(f"{self._path} holds no token")
        return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM texts. ``authority``: whom to trust; None: whom gRPC trusts by itself.

    ``certificate`` and ``key``: the worker's own. ``server_name``: what job_service's certificate
    says, empty where that is the address.
    """

    authority: bytes | None = None
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach job_service. ``tls``: None to speak in the clear."""

    address: str
    token: str | TokenFile | None = field(default=None, repr=False)
    tls: Tls | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with a call that is made now."""
        token = self.token.current() if isinstance(self.token, TokenFile) else self.token
        return (("authorization", f"Bearer {token}"),) if token is not None else ()

    def channel(self, options: list[tuple[str, int | str]]) -> grpc.aio.Channel:
        """Open a channel."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        if self.tls.server_name:
            options = [*options, ("grpc.ssl_target_name_override", self.tls.server_name)]
        credentials = grpc.ssl_channel_credentials(
            self.tls.authority, self.tls.key, self.tls.certificate
        )
        return grpc.aio.secure_channel(self.address, credentials, options=options)
