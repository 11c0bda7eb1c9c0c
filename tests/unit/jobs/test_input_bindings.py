"""Which inputs a job names: what is stored, and what is wrong with it."""

import pytest
from generation_jobs.v1.job_pb2 import InputBinding

from job_service.jobs.fields import FieldChecks
from job_service.jobs.input_bindings import input_bindings
from job_service.jobs.refusals import RefusedError


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
