"""Where every call comes in: who makes it, and whether they may."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias
from uuid import UUID

from job_service.access.credential import Credential
from job_service.access.token_book import TokenBook
from job_service.api.permissions import ON_BEHALF_OF, require_permission
from job_service.jobs.principal import LOCAL, Principal, Role
from job_service.jobs.refusals import Refusal, RefusedError, Violation

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

_AUTHORIZATION: Final = "authorization"
_SCHEME: Final = "bearer"


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who was let in, and by which token; None: no token is asked for."""

    principal: Principal
    credential: Credential | None = None


class Gate:
    """Turns a call's metadata into its principal. Without a book, everybody is the local admin."""

    def __init__(self, book: TokenBook | None) -> None:
        self._book = book

    async def identify(self, metadata: Metadata) -> Admitted:
        """Who calls.

        Raises RefusedError: UNAUTHENTICATED, TOKEN_UNKNOWN, TOKEN_EXPIRED, TOKEN_REVOKED,
        DATABASE_UNAVAILABLE; ROLE_NOT_ALLOWED, INVALID_FIELDS for the user that is named.
        """
        token, user = _read(metadata)
        if self._book is None:
            return Admitted(_for_user(LOCAL, user))
        if token is None:
            raise RefusedError(
                Refusal.UNAUTHENTICATED,
                f"a token is required: send {_AUTHORIZATION}: Bearer … as metadata",
            )
        credential = await self._book.admit(token)
        return Admitted(_for_user(credential.token.principal, user), credential)

    @staticmethod
    def require(method: str, caller: Principal) -> None:
        """Refuse what this caller may not call. Raises RefusedError."""
        require_permission(method, caller)


def _read(metadata: Metadata) -> tuple[str | None, str | None]:
    """The token and the user's name in a call's metadata."""
    token = user = None
    for key, value in metadata:
        if key == _AUTHORIZATION:
            if token is not None:
                raise RefusedError(Refusal.UNAUTHENTICATED, "more than one token was sent")
            scheme, _, token = str(value).strip().partition(" ")
            if scheme.lower() != _SCHEME:
                raise RefusedError(
                    Refusal.UNAUTHENTICATED, f"{_AUTHORIZATION} metadata must read: Bearer …"
                )
            token = token.strip()
        elif key == ON_BEHALF_OF:
            if user is not None:
                raise _bad_user("must be sent once")
            user = str(value)
    return token, user


def _for_user(principal: Principal, user: str | None) -> Principal:
    """The principal of a call for this user."""
    if user is None:
        return principal
    if principal.role not in (Role.GATEWAY, Role.ADMIN):
        raise RefusedError(
            Refusal.ROLE_NOT_ALLOWED,
            f"only a gateway or an admin acts for others: a {principal.role} sends no"
            f" {ON_BEHALF_OF} metadata",
        )
    try:
        user_id = UUID(user)
    except ValueError:
        raise _bad_user("must be a UUID") from None
    return replace(principal, user_id=user_id, on_behalf_of=user_id)


def _bad_user(why: str) -> RefusedError:
    return RefusedError(
        Refusal.INVALID_FIELDS,
        f"{ON_BEHALF_OF}: {why}",
        violations=[Violation(ON_BEHALF_OF, why)],
    )
