"""The tokens that count: those of the tokens file, and those of the database as they are needed."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from job_service.access import secret, tokens_file
from job_service.access.changing_files import ChangingFiles
from job_service.access.credential import Credential, refused
from job_service.access.token import Token
from job_service.access.tokens_file import FileToken, TokensFileError
from job_service.events.hub import CatchUp, Hub, TokensChanged
from job_service.jobs.principal import Role
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.joined import Joined
from job_service.store.tokens import TokenRow, TokenTable

#: How soon it is noticed that a token has expired or that the file has changed, and that a token
#: was revoked when the notification of it is lost.
LOOK_EVERY_SECONDS: Final = 2.0
_REMEMBERED_SECONDS: Final = 300.0
_MOST_REMEMBERED: Final = 4096
_MOST_JOINED: Final = 256

_log = structlog.get_logger()


class TokenBook:
    """Finds tokens by what callers send, and ends calls whose token has ended.

    A token of the database is read once and then looked at again when one was revoked, and every
    two seconds, all that are remembered by one statement: a call costs none. One that is not used
    for five minutes is forgotten.
    """

    def __init__(self, hub: Hub, table: TokenTable, file: Path | None) -> None:
        """Read the file. Raises TokensFileError."""
        self._hub = hub
        self._table = table
        self._path = file
        self._changing = ChangingFiles([file] if file is not None else [])
        self._of_file: dict[bytes, Credential] = {}
        self._lines: dict[bytes, FileToken] = {}
        self._remembered: OrderedDict[bytes, Credential] = OrderedDict()
        self._looked_at = 0.0
        self._find = Joined(self._find_joined, most=_MOST_JOINED)
        if file is not None:
            self._take(tokens_file.read(file))

    async def admit(self, token: str) -> Credential:
        """The credential of a token that counts.

        Raises RefusedError: TOKEN_UNKNOWN, TOKEN_EXPIRED, TOKEN_REVOKED, DATABASE_UNAVAILABLE.
        """
        digest = secret.digest(token)
        credential = self._of_file.get(digest) or self._remembered.get(digest)
        if credential is None:
            if not secret.is_well_formed(token):
                raise refused(Refusal.TOKEN_UNKNOWN)
            credential = await self._looked_up(digest)
        if credential.ended is not None:
            raise refused(credential.ended)
        credential.used_at = asyncio.get_running_loop().time()
        if digest in self._remembered:
            self._remembered.move_to_end(digest)
        return credential

    async def run(self) -> None:
        """Keep up with the file and the table, for ever."""
        with self._hub.subscribe(TokensChanged(), CatchUp()) as news:
            while not self._hub.stopping:
                await news.take(LOOK_EVERY_SECONDS)
                await self._look()

    async def _look(self) -> None:
        self._look_at_the_file()
        try:
            await self._look_at_the_table()
        except RefusedError as error:
            # What was known counts on: without the database nobody is served anything.
            _log.warning("tokens cannot be looked at", reason=error.refusal.reason)
        for credential in (*self._of_file.values(), *self._remembered.values()):
            credential.tell()

    def _look_at_the_file(self) -> None:
        if self._path is None or not self._changing.have_changed():
            return
        try:
            self._take(tokens_file.read(self._path))
        except TokensFileError as error:
            _log.error("tokens file refused, the tokens read before count on", problem=str(error))
        else:
            _log.info("tokens file read", path=str(self._path), tokens=len(self._lines))

    def _take(self, lines: dict[bytes, FileToken]) -> None:
        """Let exactly these tokens of the file count; who changes nothing notices nothing."""
        for digest in [known for known, line in self._lines.items() if lines.get(known) != line]:
            self._of_file.pop(digest).end(Refusal.TOKEN_REVOKED)
        for digest, line in lines.items():
            if digest not in self._of_file:
                self._of_file[digest] = _of_line(line)
        self._lines = lines

    async def _look_at_the_table(self) -> None:
        now = asyncio.get_running_loop().time()
        for digest, credential in tuple(self._remembered.items()):
            if not credential.in_use and credential.used_at < now - _REMEMBERED_SECONDS:
                del self._remembered[digest]
        if not self._remembered:
            return
        known = dict(self._remembered)
        used = [digest for digest, one in known.items() if one.used_at >= self._looked_at]
        self._looked_at = now
        rows = await self._table.look_again(known, used)
        for digest, credential in known.items():
            ended = _ended(rows.get(digest))
            if ended is not None:
                credential.end(ended)

    async def _looked_up(self, digest: bytes) -> Credential:
        row = await self._find(digest)
        if row is None:
            raise refused(Refusal.TOKEN_UNKNOWN)
        credential = self._remembered.get(digest)  # a call beside this one may have been faster
        if credential is None:
            credential = self._remembered[digest] = _of_row(row)
            self._forget_some()
        return credential

    def _forget_some(self) -> None:
        """Forget those that were used longest ago, but none that calls hang on."""
        excess = len(self._remembered) - _MOST_REMEMBERED
        if excess > 0:
            idle = (digest for digest, one in self._remembered.items() if not one.in_use)
            for digest in [digest for digest, _ in zip(idle, range(excess), strict=False)]:
                del self._remembered[digest]

    async def _find_joined(self, digests: Sequence[bytes]) -> Sequence[TokenRow | Exception | None]:
        rows = await self._table.find(digests)
        return [rows.get(digest) for digest in digests]


def _ended(row: TokenRow | None) -> Refusal | None:
    if row is None:
        return Refusal.TOKEN_UNKNOWN
    if row.revoked_at is not None:
        return Refusal.TOKEN_REVOKED
    if row.expires_in is not None and row.expires_in.total_seconds() <= 0:
        return Refusal.TOKEN_EXPIRED
    return None


def _of_row(row: TokenRow) -> Credential:
    token = Token(f"{row.name}#{row.id}", Role(row.role), row.user_id, row.worker)
    left = None if row.expires_in is None else row.expires_in.total_seconds()
    credential = _credential(token, left)
    ended = _ended(row)
    if ended is not None:
        credential.end(ended)
    return credential


def _of_line(line: FileToken) -> Credential:
    left = None
    if line.expires_at is not None:
        left = (line.expires_at - datetime.now(UTC)).total_seconds()
    return _credential(line.token, left)


def _credential(token: Token, seconds_left: float | None) -> Credential:
    if seconds_left is None:
        return Credential(token)
    return Credential(token, asyncio.get_running_loop().time() + seconds_left)
