"""The principal of the call being served."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from job_service.jobs.principal import Principal, Role
from job_service.jobs.refusals import Refusal, RefusedError

_principal: ContextVar[Principal] = ContextVar("principal")


def principal() -> Principal:
    """Who makes the call that the current task serves."""
    return _principal.get()


@contextmanager
def calling(caller: Principal) -> Iterator[None]:
    """Serve a call of this principal inside the block.

    Nothing is restored after it: each call has a task with a context of its own, and what is left
    of a stream whose caller has gone is closed by another task, in another context.
    """
    _principal.set(caller)
    yield


def require_role(*roles: Role) -> Principal:
    """The caller, who must have one of these roles or be an admin.

    Raises RefusedError: ROLE_NOT_ALLOWED.
    """
    caller = principal()
    if caller.role is not Role.ADMIN and caller.role not in roles:
        allowed = ", ".join((*roles, Role.ADMIN))
        raise RefusedError(
            Refusal.ROLE_NOT_ALLOWED,
            f"{caller.subject} has the role {caller.role}; this call takes {allowed}",
        )
    return caller


def require_client() -> Principal:
    """The caller, who must be a user, a gateway or an admin.

    Raises RefusedError: ROLE_NOT_ALLOWED.
    """
    return require_role(Role.USER, Role.GATEWAY)
