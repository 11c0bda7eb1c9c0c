"""Who makes a call, in which role, for which user."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID


class Role(StrEnum):
    """What a caller may do."""

    CLIENT = "client"
    """What belongs to the token's user."""
    GATEWAY = "gateway"
    """What belongs to the user named in a call: a backend-for-frontend."""
    WORKER = "worker"
    """The worker protocol."""
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one RPC.

    ``subject`` names the token, for logs. ``user_id`` owns what the caller creates without naming
    a user; None: a user must be named. ``on_behalf_of`` is the one user that a gateway or an admin
    acts for in this call. ``worker`` is the only name that the caller may work under; empty: any.
    """

    subject: str
    role: Role
    user_id: UUID | None
    on_behalf_of: UUID | None = None
    worker: str = ""

    @property
    def acts_for_anyone(self) -> bool:
        """Whether the caller may name users other than its own."""
        return self.may_raise_priority and self.on_behalf_of is None

    @property
    def may_raise_priority(self) -> bool:
        """Whether the caller's jobs may go ahead of others."""
        return self.role in (Role.GATEWAY, Role.ADMIN)

    @property
    def visible_user(self) -> UUID | None:
        """The only user whose things the caller sees; None: everybody's."""
        return None if self.acts_for_anyone else self.user_id

    @property
    def why_no_other_user(self) -> str:
        """What to say to a caller that names a user it does not act for."""
        if self.on_behalf_of is not None:
            return "names another user than x-on-behalf-of metadata does"
        return "only a gateway or an admin may name another user"


#: Owns what an admin creates without naming a user.
NOBODY_IN_PARTICULAR: Final = UUID("00000000-0000-0000-0000-000000000001")

#: Whoever reaches a service that asks for no token: the same machine.
LOCAL: Final = Principal("local", Role.ADMIN, NOBODY_IN_PARTICULAR)
