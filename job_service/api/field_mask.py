"""Which fields of a waiting job a client may change, and how a mask is applied."""

from collections.abc import Callable, Mapping
from typing import Final

from generation_jobs.v1 import job_pb2
from google.protobuf import field_mask_pb2

from job_service.jobs.fields import FieldChecks

Apply = Callable[[job_pb2.GenerationJob, job_pb2.GenerationJob], None]


def _whole(name: str) -> Apply:
    """Take a field as it is given, unset included."""

    def apply(job: job_pb2.GenerationJob, given: job_pb2.GenerationJob) -> None:
        job.ClearField(name)  # type: ignore[arg-type]
        job.MergeFrom(_only(given, name))

    return apply


def _only(given: job_pb2.GenerationJob, name: str) -> job_pb2.GenerationJob:
    taken = job_pb2.GenerationJob()
    taken.CopyFrom(given)
    for field, _ in given.ListFields():
        if field.name != name:
            taken.ClearField(field.name)  # type: ignore[arg-type]
    return taken


def _of_sampler(name: str) -> Apply:
    def apply(job: job_pb2.GenerationJob, given: job_pb2.GenerationJob) -> None:
        job.sampler.ClearField(name)  # type: ignore[arg-type]
        if name in {field.name for field, _ in given.sampler.ListFields()}:
            setattr(job.sampler, name, getattr(given.sampler, name))

    return apply


#: Paths of an update mask. What decides what the job is, its prompt above all, is not among them.
UPDATABLE: Final[Mapping[str, Apply]] = {
    **{
        name: _whole(name)
        for name in (
            "negative_prompt",
            "checkpoint_model",
            "lora_models",
            "width",
            "height",
            "batch_size",
            "sampler",
            "labels",
            "priority",
            "scheduled_at",
            "expires_at",
            "max_attempts",
            "attempt_timeout",
        )
    },
    **{
        f"sampler.{name}": _of_sampler(name)
        for name in ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    },
}

#: Paths that change which models a job names, or what it is sampled with.
NAMES_MODELS: Final = frozenset(
    {"checkpoint_model", "lora_models", "sampler", "sampler.sampler_name", "sampler.scheduler"}
)


def check_mask(checks: FieldChecks, mask: field_mask_pb2.FieldMask) -> None:
    """Note what is wrong with a mask: empty, or with paths that cannot be updated."""
    if not mask.paths:
        checks.wrong("update_mask", "must name at least one field")
    for n, path in enumerate(mask.paths[:100]):
        if path == "prompt":
            checks.wrong(f"update_mask.paths[{n}]", "the prompt of a job is immutable")
        elif path not in UPDATABLE:
            checks.wrong(f"update_mask.paths[{n}]", f"{path[:63]!r} cannot be updated")


def updated(
    job: job_pb2.GenerationJob, given: job_pb2.GenerationJob, mask: field_mask_pb2.FieldMask
) -> job_pb2.GenerationJob:
    """The job with the masked fields as given."""
    result = job_pb2.GenerationJob()
    result.CopyFrom(job)
    for path in mask.paths:
        UPDATABLE[path](result, given)
    return result
