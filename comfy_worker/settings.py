"""Settings of comfy_worker: environment variables ``COMFY_WORKER_…``, validated at start."""

import difflib
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from yarl import URL

from comfy_worker.cannot_run import CannotRunError

PREFIX: Final = "COMFY_WORKER_"
_TLS_SCHEME: Final = "grpcs://"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,63}")


class SettingsError(CannotRunError):
    """Settings that cannot be used, a line for each."""


class LogLevel(StrEnum):
    """What is logged: this and everything graver."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How it is logged."""

    CONSOLE = "console"
    JSON = "json"


def _duration(value: Any, parse: ValidatorFunctionWrapHandler) -> timedelta:
    """Read "30" and "2.5" as seconds too; pydantic itself reads only "00:00:30" and "PT30S"."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value):
        value = float(value)
    try:
        parsed = parse(value)
    except ValidationError:
        raise ValueError("must be seconds, such as 30 or 2.5, or a duration like PT15M") from None
    if not isinstance(parsed, timedelta) or parsed < timedelta(0):
        raise ValueError("must not be less than 0 seconds")
    return parsed


def _ten_seconds_or_more(value: timedelta) -> timedelta:
    """job_service disconnects whoever pings more often, unless it was told otherwise."""
    if value < timedelta(seconds=10):
        raise ValueError("must be at least 10 seconds")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError('must be 1 to 63 letters, digits, ".", "-" and "_"')
    return value


def _address(value: str) -> str:
    value = value.removeprefix("grpc://")
    host, separator, port = value.removeprefix(_TLS_SCHEME).rpartition(":")
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not (separator and host and port.isascii() and port.isdigit()) or bare_ipv6:
        raise ValueError("must be host:port, such as 127.0.0.1:50051 or [::1]:50051")
    if not 0 < int(port) <= 65535:
        raise ValueError("the port must be 1 to 65535")
    return value


def _is_loopback(address: str) -> bool:
    """Whether an address (host:port) is on this machine."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listed(value: Any) -> Any:
    """Split a comma-separated text."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _backends(value: Any) -> Any:
    """Read "http://a:8188, gpu1=http://b:8188" as URLs by name."""
    if isinstance(value, Mapping):
        return value
    backends: dict[str, str] = {}
    for part in _listed(value):
        name, separator, url = part.partition("=")
        if not separator or "://" in name:
            name, url = "", part
        parsed = _comfyui_url(url)
        name = _name(name or _default_name(parsed))
        if name in backends:
            raise ValueError(f"names two ComfyUIs {name!r}; name them as name=url,name=url")
        backends[name] = str(parsed)
    if not backends:
        raise ValueError("must name at least one ComfyUI")
    return backends


def _comfyui_url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("must be URLs such as http://127.0.0.1:8188, or name=url")
    return url


def _default_name(url: URL) -> str:
    """Name a ComfyUI by its host and port: stable however the list is ordered."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{url.host}-{url.port}")[:63]


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63] or "worker"


Duration = Annotated[timedelta, WrapValidator(_duration)]


class Settings(BaseSettings):
    """Everything that is fixed for the life of one comfy_worker."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    job_service: Annotated[str, AfterValidator(_address)] = Field(
        default="127.0.0.1:50051", description="host:port of job_service; grpcs://host:port for TLS"
    )
    token: SecretStr | None = Field(
        default=None, description="token of the worker's role; absent: the local principal"
    )
    token_file: Path | None = Field(
        default=None, description="file that holds the token; read again when it changes"
    )
    token_in_clear: bool = Field(
        default=False,
        description="send the token to another machine without TLS, where the way there is trusted",
    )
    tls: bool = Field(default=False, description="speak TLS to job_service")
    tls_ca: Path | None = Field(
        default=None,
        description="PEM file of the authority that signed job_service's certificate; implies TLS",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="PEM file of the worker's own certificate, where job_service asks for one",
    )
    tls_key: Path | None = Field(default=None, description="PEM file of its key")
    tls_server_name: str = Field(
        default="",
        description="name in job_service's certificate, where that is not the address",
    )
    comfyui_urls: Annotated[dict[str, str], NoDecode, BeforeValidator(_backends)] = Field(
        default_factory=lambda: {"127.0.0.1-8188": "http://127.0.0.1:8188"},
        description="ComfyUIs to drive, comma-separated, each a URL or name=URL",
    )
    name: Annotated[str, AfterValidator(_name)] = Field(
        default_factory=_host_name,
        description="unique and stable name of this worker; default: the host's name",
    )
    depth: int = Field(
        default=2,
        ge=1,
        le=64,
        description="prompts a ComfyUI has at once; with 2 it never waits for the next one",
    )
    labels: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=("comfyui",),
        min_length=1,
        description="kinds of job served (GenerationJob.backend), comma-separated",
    )
    grace: Duration = Field(
        default=timedelta(seconds=20),
        description="how long jobs may go on after SIGTERM before they are given back",
    )
    outcome_hold: Duration = Field(
        default=timedelta(hours=1),
        description="how long a result is kept for a job_service that cannot be reached",
    )
    catalogue_interval: Duration = Field(
        default=timedelta(minutes=5),
        description="how often a ComfyUI is asked for new models",
    )
    ping_interval: Annotated[Duration, AfterValidator(_ten_seconds_or_more)] = Field(
        default=timedelta(seconds=30),
        description="how often a silent connection to job_service is pinged, so that a dead one is "
        "found; not less than its JOB_SERVICE_MIN_PING_INTERVAL",
    )
    previews: bool = Field(default=True, description="have ComfyUI send preview pictures")
    max_output_bytes: int = Field(
        default=1024**3, ge=1, le=8 * 1024**3, description="largest file fetched from ComfyUI"
    )
    metrics_listen: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None,
        description="host:port for /metrics, /livez and /readyz over HTTP, without encryption or "
        "tokens; absent: not served",
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="debug, info, warning or error")
    log_format: LogFormat = Field(default=LogFormat.CONSOLE, description="console or json")

    @model_validator(mode="after")
    def _files_that_are_there(self) -> Self:
        for name in ("token_file", "tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{PREFIX}{name.upper()}: {path} is no file")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"{PREFIX}TLS_CERT: goes together with {PREFIX}TLS_KEY")
        if self.token is not None and self.token_file is not None:
            raise ValueError(f"{PREFIX}TOKEN: give this or {PREFIX}TOKEN_FILE")
        return self

    @model_validator(mode="after")
    def _token_that_nobody_overhears(self) -> Self:
        has_token = self.token is not None or self.token_file is not None
        if has_token and not (
            self.uses_tls or self.token_in_clear or _is_loopback(self.job_service_address)
        ):
            raise ValueError(
                f"{PREFIX}TOKEN: would go to {self.job_service_address} in the clear, for everybody"
                f" on the way to read; use TLS ({PREFIX}JOB_SERVICE=grpcs://…, {PREFIX}TLS_CA), or"
                f" allow it where the way is trusted ({PREFIX}TOKEN_IN_CLEAR=true)"
            )
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether job_service is spoken to over TLS."""
        return (
            self.tls
            or self.job_service.startswith(_TLS_SCHEME)
            or self.tls_ca is not None
            or self.tls_cert is not None
        )

    @property
    def job_service_address(self) -> str:
        """Where job_service is, as host:port."""
        return self.job_service.removeprefix(_TLS_SCHEME)

    def shown(self) -> dict[str, str]:
        """Every setting by the name of its environment variable, without secrets."""
        values = self.model_dump(mode="python")
        values["comfyui_urls"] = ",".join(
            f"{name}={without_password(url)}" for name, url in self.comfyui_urls.items()
        )
        values["labels"] = ",".join(self.labels)
        return {PREFIX + name.upper(): _as_text(value) for name, value in values.items()}


def load() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: something in it cannot be used; says what and why, quoting no values.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = (
            ": ".join(part for part in (_variable(problem["loc"]), _reason(problem["msg"])) if part)
            for problem in error.errors()
        )
        raise SettingsError("\n  ".join(["these settings cannot be used:", *lines])) from None


def unknown_names(names: Iterable[str]) -> list[str]:
    """Say of each environment variable that looks like a setting and is none, what it could be."""
    known = [name.upper() for name in Settings.model_fields]
    hints = []
    for name in sorted(names):
        setting = name.removeprefix(PREFIX)
        if setting in (name, *known):
            continue
        close = difflib.get_close_matches(setting, known, n=1)
        hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
        hints.append(f"{name} is no setting{hint}")
    return hints


def _variable(location: tuple[int | str, ...]) -> str:
    return f"{PREFIX}{str(location[0]).upper()}" if location else ""


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


def without_password(url: str) -> str:
    """Render a ComfyUI's URL with its password masked."""
    parsed = URL(url)
    return str(parsed.with_password("***") if parsed.password else parsed)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.15g}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
