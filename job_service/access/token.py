"""What a token allows."""

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from job_service.jobs.principal import NOBODY_IN_PARTICULAR, Principal, Role

#: Names of tokens and of workers.
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,63}", re.ASCII)
NAME_RULE: Final = 'must be 1 to 63 letters, digits, ".", "-" and "_"'
#: Said instead of a worker's name for a token by which any worker may call.
ANY_WORKER: Final = "*"


@dataclass(frozen=True, slots=True)
class Token:
    """Whom a token stands for. ``label`` names it in logs; ``worker``: empty for any name."""

    label: str
    role: Role
    user_id: UUID | None = None
    worker: str = ""

    @property
    def principal(self) -> Principal:
        """Who calls with it, unless the call says for whom."""
        user_id = self.user_id
        if user_id is None and self.role is not Role.GATEWAY:
            user_id = NOBODY_IN_PARTICULAR
        return Principal(self.label, self.role, user_id, worker=self.worker)


def worker_bound_to(name: str, role: Role, worker: str) -> str:
    """The worker that a token is bound to, of what was said for it; empty: none in particular."""
    if role is Role.WORKER and not worker:
        return name
    return "" if worker == ANY_WORKER and role is Role.WORKER else worker


def problem(name: str, role: Role, user_id: UUID | None, worker: str) -> str | None:
    """What is wrong with a token that is to be made; None: nothing."""
    if not NAME.fullmatch(name):
        return f"the name {NAME_RULE}"
    if role is Role.CLIENT and user_id is None:
        return "a client's token must name its user"
    if user_id is not None and role not in (Role.CLIENT, Role.ADMIN):
        return f"a {role}'s token has no user"
    if worker and role is not Role.WORKER:
        return "only a worker's token is bound to a worker"
    if worker and not NAME.fullmatch(worker):
        return f"the worker's name {NAME_RULE}"
    return None
