"""The principal of the call being served."""

from contextvars import ContextVar

import structlog

from job_service.jobs.principal import Principal

_principal: ContextVar[Principal] = ContextVar("principal")


def principal() -> Principal:
    """Who makes the call that the current task serves."""
    return _principal.get()


def calling(caller: Principal) -> None:
    """Let the current task serve a call of this principal.

    Whatever is logged meanwhile says who it was for. Nothing is restored after it: each call has a
    task with a context of its own.
    """
    _principal.set(caller)
    user = caller.visible_user
    if user is None:
        structlog.contextvars.bind_contextvars(subject=caller.subject)
    else:
        structlog.contextvars.bind_contextvars(subject=caller.subject, user=str(user))
