"""Which inputs a job names: what is stored, and what is wrong with it."""

from uuid import UUID

import pytest
from generation_jobs.v1.job_pb2 import InputBinding

from job_service.jobs.fields import FieldChecks
from job_service.jobs.input_bindings import (
    input_bindings,
    refuse_unknown_inputs,
    unknown_inputs,
)
from job_service.jobs.refusals import Refusal, RefusedError

ME, YOU = UUID(int=1), UUID(int=2)


def _bound(*bindings: InputBinding) -> list[dict[str, object]]:
    checks = FieldChecks()
    stored = input_bindings(checks, "job.inputs", bindings)
    checks.raise_if_wrong()
    return stored


def test_bindings_are_stored_in_their_order() -> None:
    assert _bound(
        InputBinding(name="mask", input_id=7),
        InputBinding(name="image", input_id=2**63 - 1),
        InputBinding(name="bild ñ", input_id=7),
    ) == [
        {"name": "mask", "input_id": 7},
        {"name": "image", "input_id": 2**63 - 1},
        {"name": "bild ñ", "input_id": 7},
    ]
    assert _bound() == []


@pytest.mark.parametrize(
    ("bindings", "fields"),
    [
        ([InputBinding(name="", input_id=1)], ["job.inputs[0].name"]),
        ([InputBinding(name="a" * 64, input_id=1)], ["job.inputs[0].name"]),
        ([InputBinding(name="a\0", input_id=1)], ["job.inputs[0].name"]),
        ([InputBinding(name="a")], ["job.inputs[0].input_id"]),
        ([InputBinding(name="a", input_id=-1)], ["job.inputs[0].input_id"]),
        ([InputBinding(name="a", input_id=1)] * 3, ["job.inputs[1].name", "job.inputs[2].name"]),
        ([InputBinding(name=str(n), input_id=1) for n in range(17)], ["job.inputs"]),
    ],
)
def test_what_is_wrong_is_named(bindings: list[InputBinding], fields: list[str]) -> None:
    with pytest.raises(RefusedError) as refused:
        _bound(*bindings)
    assert [one.field for one in refused.value.violations] == fields


def test_inputs_that_are_not_there_or_somebody_elses_are_named() -> None:
    stored = _bound(*(InputBinding(name=f"n{n}", input_id=n) for n in (1, 2, 3)))
    violations = unknown_inputs("job.inputs", ME, stored, {(ME, 2), (YOU, 3)})
    assert [one.field for one in violations] == [
        "job.inputs[0].input_id",
        "job.inputs[2].input_id",
    ]
    with pytest.raises(RefusedError) as refused:
        refuse_unknown_inputs(violations)
    assert refused.value.refusal is Refusal.INPUT_NOT_FOUND
    assert refused.value.violations == violations
    refuse_unknown_inputs([])
