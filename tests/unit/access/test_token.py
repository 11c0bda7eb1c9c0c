"""What a token may stand for."""

from uuid import UUID

import pytest

from job_service.access.token import Token, problem, worker_bound_to
from job_service.jobs.principal import NOBODY_IN_PARTICULAR, Role

USER = UUID(int=7)


@pytest.mark.parametrize(
    ("name", "role", "user_id", "worker", "complaint"),
    [
        ("ada", Role.CLIENT, None, "", "must name its user"),
        ("web", Role.GATEWAY, USER, "", "has no user"),
        ("box", Role.WORKER, USER, "", "has no user"),
        ("web", Role.GATEWAY, None, "box-1", "only a worker's token"),
        ("two words", Role.ADMIN, None, "", "the name must be"),
        ("a" * 64, Role.ADMIN, None, "", "the name must be"),
        ("box", Role.WORKER, None, "box 1", "the worker's name must be"),
    ],
)
def test_what_makes_no_sense_is_said(
    name: str, role: Role, user_id: UUID | None, worker: str, complaint: str
) -> None:
    assert complaint in (problem(name, role, user_id, worker) or "")


@pytest.mark.parametrize(
    ("role", "said", "bound_to"),
    [
        (Role.WORKER, "", "name"),
        (Role.WORKER, "box-1", "box-1"),
        (Role.WORKER, "*", ""),
        (Role.ADMIN, "", ""),
        (Role.ADMIN, "*", "*"),  # which is then complained of
    ],
)
def test_which_worker_a_token_is_bound_to(role: Role, said: str, bound_to: str) -> None:
    assert worker_bound_to("name", role, said) == bound_to


@pytest.mark.parametrize(
    ("role", "user_id", "worker"),
    [
        (Role.CLIENT, USER, ""),
        (Role.GATEWAY, None, ""),
        (Role.WORKER, None, ""),
        (Role.WORKER, None, "box-1"),
        (Role.ADMIN, None, ""),
        (Role.ADMIN, USER, ""),
    ],
)
def test_whom_a_token_stands_for(role: Role, user_id: UUID | None, worker: str) -> None:
    assert problem("name", role, user_id, worker) is None
    principal = Token("name", role, user_id, worker).principal
    assert principal.worker == worker
    if role is Role.CLIENT:
        assert principal.visible_user == USER
    if role is Role.GATEWAY:
        assert principal.user_id is None
    if role is Role.ADMIN:
        assert principal.user_id == (user_id or NOBODY_IN_PARTICULAR)
        assert principal.visible_user is None
