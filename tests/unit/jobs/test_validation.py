"""Whatever a client sends, validation answers with a job that can be stored, or with violations."""

import json
from typing import Any
from uuid import UUID

import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from job_service.jobs.limits import Limits
from job_service.jobs.new_job import NewJob
from job_service.jobs.principal import LOCAL, Principal, Role
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.validation import new_job
from tests.wild_jobs import create_requests

USER = Principal("user", Role.CLIENT, UUID(int=7))
GATEWAY = Principal("bff", Role.GATEWAY, None)
FOR_USER = Principal("bff", Role.GATEWAY, UUID(int=7), on_behalf_of=UUID(int=7))


@settings(max_examples=400, deadline=None)
@given(create_requests())
def test_any_message_is_taken_or_refused_with_violations(request: pb.CreateJobRequest) -> None:
    answer = _validated(request)
    if isinstance(answer, NewJob):
        _assert_storable(answer)
    else:
        assert answer.refusal is Refusal.INVALID_FIELDS
        assert answer.violations
        assert all(one.field and one.description for one in answer.violations)


def _assert_storable(job: NewJob) -> None:
    """What the CHECK constraints of generation_jobs ask."""
    assert job.job_type in ("image", "text", "video", "audio")
    assert job.prompt.strip(" \t\n\r\f\v")
    assert len(job.prompt) <= 20_000
    assert len(job.negative_prompt) <= 20_000
    for size in (job.width, job.height):
        assert size is None or (64 <= size <= 8192 and size % 8 == 0)
    assert job.batch_size is None or 1 <= job.batch_size <= 1024
    assert job.seed is None or 0 <= job.seed < 2**63
    assert -100 <= job.priority <= 100
    assert 1 <= job.max_attempts <= 20
    assert (job.request_id is None) == (job.request_hash is None)
    stored = json.dumps([job.params, job.labels, job.lora_models], allow_nan=False)
    assert "\\u0000" not in stored
    stored.encode()


@given(st.text(max_size=40))
def test_any_params_text_is_taken_or_refused(text: str) -> None:
    answer = _validated(_request(params_json=text))
    if isinstance(answer, RefusedError):
        assert [one.field for one in answer.violations] == ["job.params_json"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text("xyz", min_size=1), _JSON))
def test_params_are_kept_as_they_are(params: dict[str, Any]) -> None:
    job = new_job(_request(params_json=json.dumps(params)), LOCAL, Limits())
    sampler = job.params.pop("sampler_params")
    assert job.params == params
    assert sampler["steps"] == 28


@pytest.mark.parametrize(
    ("caller", "fields", "wrong"),
    [
        (USER, {"priority": 1}, ["job.priority"]),
        (USER, {"priority": -1}, []),
        (USER, {"user_id": str(UUID(int=9))}, ["job.user_id"]),
        (USER, {"user_id": str(UUID(int=7))}, []),
        (GATEWAY, {"priority": 1}, ["job.user_id"]),
        (GATEWAY, {"user_id": str(UUID(int=9)), "priority": 1}, []),
        (FOR_USER, {"priority": 1}, []),
        (FOR_USER, {"user_id": str(UUID(int=7))}, []),
        (FOR_USER, {"user_id": str(UUID(int=9))}, ["job.user_id"]),
    ],
)
def test_what_a_role_may_ask(caller: Principal, fields: dict[str, Any], wrong: list[str]) -> None:
    answer = _validated(_request(**fields), caller)
    if isinstance(answer, NewJob):
        assert not wrong
        assert answer.user_id == UUID(fields.get("user_id") or str(caller.user_id))
    else:
        assert [one.field for one in answer.violations] == wrong


def test_paths_inside_a_batch_say_which_request() -> None:
    with pytest.raises(RefusedError) as refused:
        new_job(_request(width=63), LOCAL, Limits(), path="requests[3].")
    assert refused.value.violations[0].field == "requests[3].job.width"


def test_an_installation_may_allow_larger_pictures() -> None:
    request = _request(width=8192, batch_size=64)
    assert new_job(request, LOCAL, Limits(max_dimension=8192, max_batch_size=64)).width == 8192
    with pytest.raises(RefusedError):
        new_job(request, LOCAL, Limits())


def test_the_drawn_seed_is_used() -> None:
    assert new_job(_request(), LOCAL, Limits(), draw_seed=lambda: 42).seed == 42


def _validated(request: pb.CreateJobRequest, caller: Principal = LOCAL) -> NewJob | RefusedError:
    try:
        return new_job(request, caller, Limits())
    except RefusedError as error:
        return error


def _request(**fields: Any) -> pb.CreateJobRequest:
    return pb.CreateJobRequest(
        job=job_pb2.GenerationJob(prompt="p", checkpoint_model="c", **fields)
    )
