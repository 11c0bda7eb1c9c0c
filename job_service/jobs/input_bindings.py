"""Which uploaded inputs a job names, and what for."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from generation_jobs.v1 import job_pb2

from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.refusals import Refusal, RefusedError, Violation

#: How the column ``inputs`` holds one binding.
Binding = Mapping[str, Any]

_MAX_INPUTS: Final = 16


def input_bindings(
    checks: FieldChecks, path: str, bindings: Sequence[job_pb2.InputBinding]
) -> list[dict[str, Any]]:
    """The bindings as they are stored: ``{"name": …, "input_id": …}``, in their order."""
    if len(bindings) > _MAX_INPUTS:
        checks.wrong(path, f"must have at most {_MAX_INPUTS} entries, has {len(bindings)}")
        return []
    stored: list[dict[str, Any]] = []
    names: set[str] = set()
    for index, binding in enumerate(bindings):
        at = f"{path}[{index}]"
        checks.text(f"{at}.name", binding.name, shortest=1, longest=limits.MAX_WORD)
        if binding.name in names:
            checks.wrong(f"{at}.name", f"is the name of another input too: {binding.name!r}")
        names.add(binding.name)
        checks.integer(f"{at}.input_id", binding.input_id, low=1, high=2**63 - 1)
        stored.append({"name": binding.name, "input_id": binding.input_id})
    return stored


def unknown_inputs(
    path: str, user_id: UUID, bindings: Sequence[Binding], known: Collection[tuple[UUID, int]]
) -> list[Violation]:
    """A violation for each binding of a user's job whose input is not among ``known``.

    ``known`` names inputs by owner and id, as ``InputTable.resolve`` does; ``path`` is that of the
    job's field, for example ``job.inputs``.
    """
    return [
        Violation(f"{path}[{index}].input_id", f"user {user_id} has no input {binding['input_id']}")
        for index, binding in enumerate(bindings)
        if (user_id, binding["input_id"]) not in known
    ]


def refuse_unknown_inputs(violations: Sequence[Violation]) -> None:
    """Raise INPUT_NOT_FOUND, naming every binding, if there are any."""
    if violations:
        first = violations[0]
        raise RefusedError(
            Refusal.INPUT_NOT_FOUND, f"{first.field}: {first.description}", violations
        )
