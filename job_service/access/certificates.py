"""The server's certificates, replaced while it runs when their files are."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import structlog

from job_service.access.changing_files import ChangingFiles
from job_service.cannot_run import CannotRunError

LOOK_EVERY_SECONDS: Final = 2.0

_log = structlog.get_logger()


class CertificatesError(CannotRunError):
    """The files cannot be used; says which and why, quoting nothing of them."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the certificate with its chain, its key, and who signs clients' certificates.

    ``client_ca``: None when clients need no certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return [path for path in (self.certificate, self.key, self.client_ca) if path is not None]


class Certificates:
    """Serves new connections with what the files hold; those that are open go on as they are."""

    def __init__(self, files: CertificateFiles) -> None:
        """Read the files. Raises CertificatesError."""
        self._files = files
        self._changing = ChangingFiles(files.paths)
        self._contents = _read(files)
        self._configuration = _configuration(self._contents)

    def credentials(self) -> grpc.ServerCredentials:
        """What to listen with; asks at each handshake, in a thread of gRPC, what holds now."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            lambda: self._configuration,
            require_client_authentication=self._files.client_ca is not None,
        )

    async def run(self) -> None:
        """Keep up with the files, for ever; what cannot be used is logged and changes nothing."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            if not self._changing.have_changed():
                continue
            try:
                contents = await asyncio.to_thread(_read, self._files)
            except CertificatesError as error:
                _log.error("certificates refused, those before are served on", problem=str(error))
                continue
            if contents != self._contents:
                self._contents = contents
                self._configuration = _configuration(contents)
                _log.info("certificates read", certificate=str(self._files.certificate))


def _read(files: CertificateFiles) -> list[bytes]:
    """The contents of the files, which fit together. Raises CertificatesError."""
    contents = [_content(path) for path in files.paths]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password: a key that needs one is refused, rather than asked for at a terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise CertificatesError(
            f"{files.certificate} and {files.key} are no certificate and its unencrypted key in"
            f" PEM form: {_reason(error)}"
        ) from error
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (ssl.SSLError, ValueError) as error:
            raise CertificatesError(
                f"{files.client_ca} holds no certificates in PEM form: {_reason(error)}"
            ) from error
    if contents != [_content(path) for path in files.paths]:
        raise CertificatesError("the files changed while they were read")
    return contents


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificatesError(f"cannot read {path}: {error.strerror}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or type(error).__name__


def _configuration(contents: list[bytes]) -> grpc.ServerCertificateConfiguration:
    certificate, key, *client_ca = contents
    return grpc.ssl_server_certificate_configuration(
        [(key, certificate)], client_ca[0] if client_ca else None
    )
