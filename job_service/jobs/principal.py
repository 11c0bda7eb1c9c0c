"""Who makes a call, in which role, for which user."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID


class Role(StrEnum):
    """What a caller may do."""

    USER = "user"
    """Their own jobs."""
    GATEWAY = "gateway"
    """Jobs of any user, named in the call: a backend-for-frontend."""
    WORKER = "worker"
    """The worker protocol."""
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one RPC.

    ``subject`` names the token or certificate, for logs. ``user_id`` owns what the caller creates
    without naming a user.
    """

    subject: str
    role: Role
    user_id: UUID

    @property
    def acts_for_anyone(self) -> bool:
        """Whether the caller may name users other than its own."""
        return self.role in (Role.GATEWAY, Role.ADMIN)

    @property
    def visible_user(self) -> UUID | None:
        """The only user whose jobs the caller sees; None: everybody's."""
        return None if self.acts_for_anyone else self.user_id


#: Whoever reaches a service that asks for no token: the same machine.
LOCAL: Final = Principal("local", Role.ADMIN, UUID("00000000-0000-0000-0000-000000000001"))
