"""What the values of settings may be, and how they are read from text."""

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_settings import NoDecode
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from job_service.access import exposure


class LogLevel(StrEnum):
    """What is logged: this and everything graver."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class UnknownModels(StrEnum):
    """What becomes of a job with a model that no live worker offers."""

    WAIT = "wait"
    REJECT = "reject"


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
    if not isinstance(parsed, timedelta) or parsed <= timedelta(0):
        raise ValueError("must be more than 0 seconds")
    return parsed


def listen_address(value: str) -> str:
    """Check that this is host:port."""
    host, separator, port = value.rpartition(":")
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not (separator and host and port.isascii() and port.isdigit()) or bare_ipv6:
        raise ValueError("must be host:port, such as 127.0.0.1:50051 or [::1]:50051")
    if int(port) > 65535:
        raise ValueError("the port must be at most 65535")
    return value


def postgres_url(value: str) -> str:
    """Check a PostgreSQL URL and turn it into SQLAlchemy's form for psycopg."""
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise ValueError("must be a URL such as postgresql://user:password@host/database") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ValueError(f"must start with postgresql://, not {url.drivername}://")
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def store_url(value: str) -> str:
    """Check that this looks like the URL of an artifact store."""
    if not re.match(r"[a-z][a-z0-9+.-]*://.", value):
        raise ValueError("must be a URL such as file:///var/lib/pictures or s3://bucket/prefix")
    return value


def plain_words(value: str) -> str:
    """Check that nothing is agreed to by accident."""
    if value and value.strip().lower() != exposure.PLAIN_WORDS.lower():
        raise ValueError(f"must read: {exposure.PLAIN_WORDS}")
    return value


def multiple_of_8(value: int) -> int:
    """Check what ComfyUI would round."""
    if value % 8:
        raise ValueError("must be a multiple of 8")
    return value


def at_least_five_minutes(value: timedelta) -> timedelta:
    """Inputs must not be swept between being found and the job being stored."""
    if value < timedelta(minutes=5):
        raise ValueError("must be at least 300 seconds")
    return value


def _an_hour_or_more(value: timedelta) -> timedelta:
    """Whoever takes seconds for days must not lose every job."""
    if value < timedelta(hours=1):
        raise ValueError("must be at least 3600 seconds")
    if value > timedelta(days=36_500):
        raise ValueError("must be at most a hundred years; leave it out to keep them for ever")
    return value


Duration = Annotated[timedelta, WrapValidator(_duration)]
Retained = Annotated[Duration, AfterValidator(_an_hour_or_more)]


def _patterns(value: Any) -> Any:
    """Names or patterns separated by commas."""
    if isinstance(value, str):
        return tuple(name for part in value.split(",") if (name := part.strip()))
    return value


Patterns = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_patterns)]
