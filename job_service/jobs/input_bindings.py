"""Which uploaded inputs a job names, and what for."""

from collections.abc import Sequence
from typing import Any, Final

from generation_jobs.v1 import job_pb2

from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks

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
