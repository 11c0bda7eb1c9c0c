"""A file of tokens: one a line, as digests, for a service whose tokens are not in its database.

For example::

    # name   role     token                 for whom, until when
    web      gateway  sha256:6c4b…
    gpu-1    worker   sha256:03ab…          worker=gpu-1
    ada      client   sha256:77d0…          user=6f1c52b4-8a39-4a0e-9f43-0c1d1c1b7a10
    on-call  admin    sha256:e9f2…          expires=2027-01-31T00:00:00Z
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from job_service.access.token import ANY_WORKER, Token, problem, worker_bound_to
from job_service.cannot_run import CannotRunError
from job_service.jobs.principal import Role

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_OPTIONS: Final = frozenset({"user", "worker", "expires"})


class TokensFileError(CannotRunError):
    """The file cannot be used; says which line and why, quoting none of it."""


@dataclass(frozen=True, slots=True)
class FileToken:
    """A token and when it ends; None: never."""

    token: Token
    expires_at: datetime | None


def read(path: Path) -> dict[bytes, FileToken]:
    """The tokens of a file by their digest. Raises TokensFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise TokensFileError(f"cannot read the tokens file {path}: {why}") from error
    found: dict[bytes, FileToken] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            digest, token = _token(words)
        except ValueError as error:
            raise TokensFileError(f"{path}, line {number}: {error}") from None
        if digest in found:
            raise TokensFileError(f"{path}, line {number}: another line has the same token")
        found[digest] = token
    return found


def line(
    name: str,
    role: Role,
    digest: bytes,
    *,
    user_id: UUID | None,
    worker: str,
    expires_at: datetime | None,
) -> str:
    """A token as a line of the file."""
    words = [name, role, f"sha256:{digest.hex()}"]
    if user_id is not None:
        words.append(f"user={user_id}")
    if worker or role is Role.WORKER:
        words.append(f"worker={worker or ANY_WORKER}")
    if expires_at is not None:
        words.append(f"expires={expires_at.astimezone(UTC).isoformat(timespec='seconds')}")
    return " ".join(words)


def _token(words: list[str]) -> tuple[bytes, FileToken]:
    if len(words) < 3:
        raise ValueError("must hold a name, a role and sha256:…")
    name, role_word, digest_word, *rest = words
    if role_word not in frozenset(Role):
        raise ValueError(f"the role must be one of {', '.join(Role)}")
    digest = _DIGEST.fullmatch(digest_word)
    if digest is None:
        raise ValueError("the third word must be sha256: and 64 hexadecimal digits in lower case")
    options = _options(rest)
    role, worker = Role(role_word), options.get("worker", "")
    if role is Role.WORKER and not worker:
        raise ValueError(f"a worker's line must say worker=NAME, or worker={ANY_WORKER} for any")
    worker = worker_bound_to(name, role, worker)
    user_id = _user(options["user"]) if "user" in options else None
    wrong = problem(name, role, user_id, worker)
    if wrong is not None:
        raise ValueError(wrong)
    return bytes.fromhex(digest[1]), FileToken(
        Token(name, role, user_id, worker),
        _time(options["expires"]) if "expires" in options else None,
    )


def _options(words: list[str]) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or key not in _OPTIONS or key in options:
            raise ValueError("after the token may stand user=…, worker=… and expires=…, each once")
        options[key] = value
    return options


def _user(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ValueError("user= must be a UUID") from None


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError("expires= must be a time with its zone, such as 2027-01-31T00:00:00Z")
    return time
