"""What ``job-service token`` does: tokens made, listed and revoked."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from job_service import process
from job_service.access import secret, tokens_file
from job_service.access.token import ANY_WORKER, problem, worker_bound_to
from job_service.cannot_run import CannotRunError
from job_service.events.announcement import announce
from job_service.events.hub import TokensChanged
from job_service.jobs.principal import Role
from job_service.jobs.refusals import RefusedError
from job_service.settings import Settings
from job_service.store.database import Database
from job_service.store.tokens import TokenRow, TokenTable


class TokenCommandError(CannotRunError):
    """The command cannot be carried out; says why."""


async def create(
    settings: Settings,
    name: str,
    role: Role,
    *,
    user_id: UUID | None,
    worker: str,
    lifetime: timedelta | None,
) -> tuple[str, str]:
    """Make a token in the database; the token, and what to say about it.

    ``worker``: the name that a worker's token is bound to, by default that of the token; "*" for
    any. Raises TokenCommandError.
    """
    worker = worker_bound_to(name, role, worker)
    _check(name, role, user_id, worker)
    token = secret.drawn()
    async with _database(settings) as database:
        row = await TokenTable(database).add(
            name,
            secret.digest(token),
            role,
            user_id=user_id,
            worker=worker,
            lifetime=lifetime,
        )
    until = "for ever" if row.expires_at is None else f"until {_time(row.expires_at)}"
    said = f"token {row.id} ({name}, {role}) counts {until}; it is shown this once"
    if not settings.asks_for_tokens:
        said += (
            "\nnote: with these settings job-service asks nobody for a token;"
            " JOB_SERVICE_REQUIRE_TOKENS=true changes that"
        )
    return token, said


def create_in_file(
    path: Path,
    name: str,
    role: Role,
    *,
    user_id: UUID | None,
    worker: str,
    lifetime: timedelta | None,
) -> tuple[str, str]:
    """Add a token to a tokens file, which is made if it is missing; as :func:`create`."""
    worker = worker_bound_to(name, role, worker)
    _check(name, role, user_id, worker)
    token = secret.drawn()
    line = tokens_file.line(
        name,
        role,
        secret.digest(token),
        user_id=user_id,
        worker=worker,
        expires_at=None if lifetime is None else datetime.now(UTC) + lifetime,
    )
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        separator = "" if before.endswith("\n") or not before else "\n"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as file:
            file.write(f"{separator}{line}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenCommandError(f"cannot write {path}: {error}") from error
    tokens_file.read(path)
    return token, f"added to {path}: {name}, {role}; the token is shown this once"


async def listed(settings: Settings) -> list[tuple[str, ...]]:
    """Every token: id, name, role, for whom, made, last used, state."""
    rows: list[tuple[str, ...]] = []
    if settings.tokens_file is not None:
        for one in tokens_file.read(settings.tokens_file).values():
            token, expires_at = one.token, one.expires_at
            over = expires_at is not None and expires_at <= datetime.now(UTC)
            state = _state(revoked=False, expired=over, expires_at=expires_at)
            whose = _whose(token.role, token.user_id, token.worker)
            rows.append(("file", token.label, token.role, whose, "", "", state))
    async with _database(settings) as database:
        rows += [_row(row) for row in await TokenTable(database).all()]
    return rows


async def revoke(settings: Settings, token_id: int) -> None:
    """End a token of the database, and its calls. Raises TokenCommandError."""
    async with _database(settings) as database:
        if not await TokenTable(database).revoke(token_id):
            raise TokenCommandError(f"there is no token {token_id} that counts")
        with suppress(RefusedError):  # then services find it by looking, within seconds
            await announce(database, TokensChanged())


def _check(name: str, role: Role, user_id: UUID | None, worker: str) -> None:
    wrong = problem(name, role, user_id, worker)
    if wrong is not None:
        raise TokenCommandError(wrong)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    async with AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(process.migrated_database(settings))
        except CannotRunError as error:
            if settings.database_url is not None:
                raise
            # An embedded PostgreSQL belongs to the service that runs it.
            hint = "tokens may also be kept in a file: --to-file, JOB_SERVICE_TOKENS_FILE"
            raise TokenCommandError(f"{error}; {hint}") from error
        database = Database(url, pool_size=2)
        stack.push_async_callback(database.close)
        try:
            yield database
        except RefusedError as error:
            raise TokenCommandError(error.message) from error


def _row(row: TokenRow) -> tuple[str, ...]:
    expired = row.expires_in is not None and row.expires_in <= timedelta()
    return (
        str(row.id),
        row.name,
        row.role,
        _whose(Role(row.role), row.user_id, row.worker),
        _time(row.created_at),
        _time(row.last_used_at) if row.last_used_at is not None else "never",
        _state(revoked=row.revoked_at is not None, expired=expired, expires_at=row.expires_at),
    )


def _whose(role: Role, user_id: UUID | None, worker: str) -> str:
    if role is Role.WORKER:
        return f"worker {worker or ANY_WORKER}"
    return f"user {user_id}" if user_id is not None else ""


def _state(*, revoked: bool, expired: bool, expires_at: datetime | None) -> str:
    if revoked:
        return "revoked"
    if expired:
        return "expired"
    return "counts" if expires_at is None else f"counts until {_time(expires_at)}"


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
